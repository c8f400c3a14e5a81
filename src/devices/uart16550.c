#include "devices/uart16550.h"

#include <string.h>

enum { RBR_THR, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };
enum {
    IER_RDA = 1 << 0,
    IER_THRE = 1 << 1,
    IER_RLS = 1 << 2,
    IER_MS = 1 << 3,
    IIR_NONE = 1,
    IIR_MS = 0,
    IIR_THRE = 2,
    IIR_RDA = 4,
    IIR_RLS = 6,
    IIR_TIMEOUT = 12,
    IIR_FIFOS = 0xc0,
    FCR_ENABLE = 1 << 0,
    FCR_CLEAR_RX = 1 << 1,
    FCR_DMA = 1 << 3,
    FCR_TRIGGER = 0xc0,
    LCR_STOP = 1 << 2,
    LCR_PARITY = 1 << 3,
    LCR_BREAK = 1 << 6,
    LCR_DLAB = 1 << 7,
    MCR_DTR = 1 << 0,
    MCR_RTS = 1 << 1,
    MCR_OUT1 = 1 << 2,
    MCR_OUT2 = 1 << 3,
    MCR_LOOP = 1 << 4,
    LSR_DR = 1 << 0,
    LSR_OE = 1 << 1,
    LSR_BI = 1 << 4,
    LSR_ERRORS = 0x1e,
    LSR_THRE = 1 << 5,
    LSR_TEMT = 1 << 6,
    LSR_FIFO_ERROR = 1 << 7,
    MSR_CTS = 1 << 4,
    MSR_DSR = 1 << 5,
    MSR_RI = 1 << 6,
    MSR_DCD = 1 << 7,
};
static const uint64_t CLOCK_HZ = 1843200;

static bool fifo_enabled(const struct uart16550 *uart)
{
    return uart->fcr & FCR_ENABLE;
}

static unsigned rx_size(const struct uart16550 *uart)
{
    return fifo_enabled(uart) ? UART16550_FIFO_SIZE : 1;
}

static unsigned trigger_level(const struct uart16550 *uart)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};
    return fifo_enabled(uart) ? levels[uart->fcr >> 6] : 1;
}

/* Start, data, parity and stop bits of one character, 16 clocks per divisor step each. */
static uint64_t character_ns(const struct uart16550 *uart)
{
    uint64_t half_bits = 2u * (1 + 5 + (uart->lcr & 3u)) + 2;
    if (uart->lcr & LCR_PARITY)
        half_bits += 2;
    if (uart->lcr & LCR_STOP)
        half_bits += (uart->lcr & 3) ? 2 : 1;
    uint64_t divisor = uart->divisor ? uart->divisor : 1;
    return half_bits * 8 * divisor * 1000000000 / CLOCK_HZ;
}

static uint8_t interrupt_identity(const struct uart16550 *uart)
{
    if ((uart->ier & IER_RLS) && uart->errors)
        return IIR_RLS;
    if ((uart->ier & IER_RDA) && uart->rx_count >= trigger_level(uart))
        return IIR_RDA;
    if ((uart->ier & IER_RDA) && uart->timed_out)
        return IIR_TIMEOUT;
    if ((uart->ier & IER_THRE) && uart->thre_pending)
        return IIR_THRE;
    if ((uart->ier & IER_MS) && (uart->msr & 0x0f))
        return IIR_MS;
    return IIR_NONE;
}

static void update_irq(struct uart16550 *uart)
{
    /* OUT2 opens the PC's driver of the line; in loopback the pin is inactive. */
    bool gate = (uart->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
    uint8_t level = gate && interrupt_identity(uart) != IIR_NONE;
    if (level != uart->irq) {
        uart->irq = level;
        irq_line_set(&uart->config.irq, level);
    }
}

/* Four character times without a byte coming in or being read (data sheet 8.4). */
static void restart_timeout(struct uart16550 *uart)
{
    uart->timed_out = 0;
    if (fifo_enabled(uart) && uart->rx_count)
        timer_set(&uart->timeout, vclock_now(uart->config.clock) + 4 * character_ns(uart));
    else
        timer_cancel(&uart->timeout);
}

static void timeout_expired(void *ctx, uint64_t now_ns)
{
    struct uart16550 *uart = ctx;
    (void)now_ns;
    uart->timed_out = uart->rx_count != 0;
    update_irq(uart);
}

/* The errors of a byte show in LSR when it reaches the top of the FIFO. */
static void reveal_errors(struct uart16550 *uart)
{
    if (uart->rx_count) {
        uart->errors |= uart->rx_errors[uart->rx_head];
        uart->rx_errors[uart->rx_head] = 0;
    }
}

static void rx_push(struct uart16550 *uart, uint8_t data, uint8_t errors)
{
    if (uart->rx_count >= rx_size(uart)) {
        uart->errors |= LSR_OE;
        if (fifo_enabled(uart)) /* the byte in the shift register is lost */
            return;
        uart->rx_count = 0; /* without FIFO the old byte is overwritten */
    }
    unsigned slot = (uart->rx_head + uart->rx_count) % UART16550_FIFO_SIZE;
    uart->rx_data[slot] = data;
    uart->rx_errors[slot] = errors;
    uart->rx_count++;
    reveal_errors(uart);
}

static void rx_clear(struct uart16550 *uart)
{
    uart->rx_head = uart->rx_count = 0;
    memset(uart->rx_errors, 0, sizeof(uart->rx_errors));
    restart_timeout(uart);
}

static size_t can_receive(void *ctx)
{
    const struct uart16550 *uart = ctx;
    if (uart->mcr & MCR_LOOP)
        return 0;
    return uart->rx_count < rx_size(uart) ? rx_size(uart) - uart->rx_count : 0;
}

static void receive(void *ctx, const uint8_t *data, size_t size)
{
    struct uart16550 *uart = ctx;
    for (size_t i = 0; i < size; i++)
        rx_push(uart, data[i], 0);
    restart_timeout(uart);
    update_irq(uart);
}

static void accept_input(struct uart16550 *uart)
{
    if (uart->config.chardev && can_receive(uart))
        chardev_accept_input(uart->config.chardev);
}

void uart16550_receive_break(struct uart16550 *uart)
{
    if (uart->mcr & MCR_LOOP)
        return;
    rx_push(uart, 0, LSR_BI);
    restart_timeout(uart);
    update_irq(uart);
}

/* The lines that MSR shows: the modem's, or in loopback those of MCR. */
static uint8_t visible_lines(const struct uart16550 *uart)
{
    if (!(uart->mcr & MCR_LOOP))
        return uart->lines;
    return (uint8_t)((uart->mcr & MCR_RTS ? MSR_CTS : 0) | (uart->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (uart->mcr & MCR_OUT1 ? MSR_RI : 0) | (uart->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void update_modem(struct uart16550 *uart)
{
    uint8_t lines = visible_lines(uart);
    uint8_t changed = (uart->msr ^ lines) & 0xf0;
    if (lines & MSR_RI) /* TERI: only the end of ringing counts */
        changed &= (uint8_t)~MSR_RI;
    uart->msr = (uint8_t)(lines | (uart->msr & 0x0f) | changed >> 4);
}

void uart16550_set_modem(struct uart16550 *uart, uint8_t lines)
{
    uart->lines = lines & 0xf0;
    update_modem(uart);
    update_irq(uart);
}

static uint8_t read_rbr(struct uart16550 *uart)
{
    uint8_t value = uart->rx_data[uart->rx_head];
    if (!uart->rx_count)
        return value; /* the last byte again */
    uart->rx_count--;
    if (uart->rx_count) {
        uart->rx_head = (uint8_t)((uart->rx_head + 1) % UART16550_FIFO_SIZE);
        reveal_errors(uart);
    }
    restart_timeout(uart);
    return value;
}

static uint8_t read_lsr(struct uart16550 *uart)
{
    uint8_t value = LSR_THRE | LSR_TEMT | uart->errors;
    if (uart->rx_count)
        value |= LSR_DR;
    uint8_t queued = uart->errors & (LSR_ERRORS & ~LSR_OE);
    for (unsigned i = 0; i < uart->rx_count; i++)
        queued |= uart->rx_errors[(uart->rx_head + i) % UART16550_FIFO_SIZE];
    if (fifo_enabled(uart) && queued)
        value |= LSR_FIFO_ERROR;
    uart->errors = 0;
    return value;
}

static uint64_t uart_read(void *ctx, uint64_t offset, unsigned size)
{
    struct uart16550 *uart = ctx;
    uint8_t value = 0;
    (void)size;
    switch (offset & 7) {
    case RBR_THR:
        if (uart->lcr & LCR_DLAB)
            return (uint8_t)uart->divisor;
        value = read_rbr(uart);
        update_irq(uart);
        accept_input(uart);
        return value;
    case IER:
        return uart->lcr & LCR_DLAB ? uart->divisor >> 8 : uart->ier;
    case IIR_FCR:
        value = interrupt_identity(uart);
        if (value == IIR_THRE)
            uart->thre_pending = 0;
        value |= fifo_enabled(uart) ? IIR_FIFOS : 0;
        break;
    case LCR:
        return uart->lcr;
    case MCR:
        return uart->mcr;
    case LSR:
        value = read_lsr(uart);
        break;
    case MSR:
        value = uart->msr;
        uart->msr &= 0xf0;
        break;
    default:
        return uart->scr;
    }
    update_irq(uart);
    return value;
}

static void write_thr(struct uart16550 *uart, uint8_t value)
{
    static const uint8_t masks[4] = {0x1f, 0x3f, 0x7f, 0xff};
    /*
     * Small test programs print without setting up the line first. What is plugged in here then
     * takes them for what they mean, as it does whatever speed they set.
     */
    if (uart->lcr_written || (uart->mcr & MCR_LOOP))
        value &= masks[uart->lcr & 3];
    /* A byte in THR withdraws the interrupt; leaving at once, it raises it anew: a new edge. */
    uart->thre_pending = 0;
    update_irq(uart);
    if (uart->mcr & MCR_LOOP) {
        rx_push(uart, value, 0);
        restart_timeout(uart);
    } else if (uart->config.chardev && !(uart->lcr & LCR_BREAK)) {
        chardev_write(uart->config.chardev, &value, 1);
    }
    uart->thre_pending = 1;
}

static void write_fcr(struct uart16550 *uart, uint8_t value)
{
    if ((value ^ uart->fcr) & FCR_ENABLE)
        rx_clear(uart); /* changing over clears both FIFOs */
    if (!(value & FCR_ENABLE)) {
        uart->fcr = 0; /* the other bits are not programmed then */
        return;
    }
    uart->fcr = value & (FCR_ENABLE | FCR_DMA | FCR_TRIGGER);
    if (value & FCR_CLEAR_RX)
        rx_clear(uart);
}

static void write_lcr(struct uart16550 *uart, uint8_t value)
{
    bool break_starts = (value & LCR_BREAK) && !(uart->lcr & LCR_BREAK);
    uart->lcr = value;
    uart->lcr_written = true;
    if (break_starts && (uart->mcr & MCR_LOOP)) {
        rx_push(uart, 0, LSR_BI);
        restart_timeout(uart);
    }
}

static void uart_write(void *ctx, uint64_t offset, uint64_t data, unsigned size)
{
    struct uart16550 *uart = ctx;
    uint8_t value = (uint8_t)data;
    (void)size;
    switch (offset & 7) {
    case RBR_THR:
        if (uart->lcr & LCR_DLAB)
            uart->divisor = (uint16_t)((uart->divisor & 0xff00) | value);
        else
            write_thr(uart, value);
        break;
    case IER:
        if (uart->lcr & LCR_DLAB) {
            uart->divisor = (uint16_t)(value << 8 | (uart->divisor & 0xff));
            break;
        }
        /* Enabling the transmitter interrupt while THR is empty requests it at once. */
        if ((value & IER_THRE) && !(uart->ier & IER_THRE))
            uart->thre_pending = 1;
        uart->ier = value & 0x0f;
        break;
    case IIR_FCR:
        write_fcr(uart, value);
        break;
    case LCR:
        write_lcr(uart, value);
        break;
    case MCR:
        uart->mcr = value & 0x1f;
        update_modem(uart);
        break;
    case SCR:
        uart->scr = value;
        break;
    default: /* LSR and MSR are for factory tests */
        break;
    }
    update_irq(uart);
    if ((offset & 7) == IIR_FCR || (offset & 7) == MCR)
        accept_input(uart);
}

void uart16550_init(struct uart16550 *uart, const struct uart16550_config *config)
{
    memset(uart, 0, sizeof(*uart));
    uart->config = *config;
    uart->divisor = 12; /* 9600 baud; not changed by a reset */
    timer_init(&uart->timeout, config->timers, timeout_expired, uart);
    if (config->chardev)
        uart->lines = MSR_CTS | MSR_DSR | MSR_DCD;
    uart16550_reset(uart);
    if (config->chardev) {
        struct chardev_receiver receiver = {
            .ctx = uart, .can_receive = can_receive, .receive = receive};
        chardev_connect(config->chardev, &receiver, config->lock);
    }
}

/* Master reset (data sheet table I). */
void uart16550_reset(struct uart16550 *uart)
{
    uart->ier = uart->lcr = uart->mcr = uart->fcr = 0;
    uart->lcr_written = false;
    uart->errors = 0;
    uart->thre_pending = 0;
    uart->msr = uart->lines;
    rx_clear(uart);
    update_irq(uart);
}

const struct io_ops uart16550_ops = {uart_read, uart_write, 1, 1};
