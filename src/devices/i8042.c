#include "devices/i8042.h"

#include <string.h>

enum {
    STATUS_OBF = 1 << 0,
    STATUS_SYSTEM = 1 << 2,
    STATUS_COMMAND = 1 << 3,
    STATUS_UNLOCKED = 1 << 4,
    STATUS_AUX_OBF = 1 << 5,
    CCB_KEYBOARD_INT = 1 << 0,
    CCB_AUX_INT = 1 << 1,
    CCB_SYSTEM = 1 << 2,
    CCB_KEYBOARD_OFF = 1 << 4,
    CCB_AUX_OFF = 1 << 5,
    CCB_TRANSLATE = 1 << 6,
    CCB_WRITABLE = 0x77,
    PORT_RESET = 1 << 0, /* low resets the processor */
    PORT_A20 = 1 << 1,
    PORT_KEYBOARD_OBF = 1 << 4,
    PORT_AUX_OBF = 1 << 5,
    PORT_CLOCKS = 0xc0,
    INPUT_PORT = 0xb0, /* keyboard not locked, no manufacturing jumper, colour display */
};
enum {
    CMD_READ_RAM = 0x20,
    CMD_WRITE_RAM = 0x60,
    CMD_TEST_PASSWORD = 0xa4,
    CMD_LOAD_PASSWORD = 0xa5,
    CMD_ENABLE_PASSWORD = 0xa6,
    CMD_AUX_OFF = 0xa7,
    CMD_AUX_ON = 0xa8,
    CMD_AUX_TEST = 0xa9,
    CMD_SELF_TEST = 0xaa,
    CMD_KEYBOARD_TEST = 0xab,
    CMD_KEYBOARD_OFF = 0xad,
    CMD_KEYBOARD_ON = 0xae,
    CMD_READ_INPUT_PORT = 0xc0,
    CMD_READ_OUTPUT_PORT = 0xd0,
    CMD_WRITE_OUTPUT_PORT = 0xd1,
    CMD_WRITE_KEYBOARD_BUFFER = 0xd2,
    CMD_WRITE_AUX_BUFFER = 0xd3,
    CMD_WRITE_AUX = 0xd4,
    CMD_A20_OFF = 0xdd,
    CMD_A20_ON = 0xdf,
    CMD_READ_TEST_INPUTS = 0xe0,
    CMD_PULSE = 0xf0, /* bits 3..0: output port bits not to pulse */
};
/* The line takes 0.7 ms for a byte; shorter, for loops that wait a fixed number of turns. */
static const uint64_t BYTE_NS = 250000;

/* Set 2 to set 1, as in the controller's ROM; codes above 84h pass unchanged. */
static const uint8_t translation[] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29,
    0x59, 0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11,
    0x03, 0x5b, 0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14,
    0x13, 0x06, 0x5d, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24,
    0x16, 0x08, 0x09, 0x5f, 0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35,
    0x26, 0x27, 0x19, 0x0c, 0x61, 0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36,
    0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c,
    0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f, 0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45,
    0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54, 0x80, 0x81, 0x82, 0x41, 0x54};

static uint8_t ccb(const struct i8042 *kbc)
{
    return kbc->ram[0];
}

static void update_irqs(struct i8042 *kbc)
{
    bool full = kbc->output_full, aux = kbc->output_aux;
    irq_line_set(&kbc->config.keyboard_irq, full && !aux && (ccb(kbc) & CCB_KEYBOARD_INT));
    irq_line_set(&kbc->config.mouse_irq, full && aux && (ccb(kbc) & CCB_AUX_INT));
}

static void fill(struct i8042 *kbc, uint8_t byte, bool aux)
{
    kbc->output = byte;
    kbc->output_aux = aux;
    kbc->output_full = 1;
    update_irqs(kbc);
}

static bool keyboard_waits(const struct i8042 *kbc)
{
    return !(ccb(kbc) & CCB_KEYBOARD_OFF) && ps2_keyboard_has_data(&kbc->keyboard);
}

static bool mouse_waits(const struct i8042 *kbc)
{
    return !(ccb(kbc) & CCB_AUX_OFF) && ps2_mouse_has_data(&kbc->mouse);
}

/* Sets the next byte in motion if there is one and the output buffer is free. */
static void advance(struct i8042 *kbc)
{
    uint8_t byte;
    if (kbc->output_full)
        return;
    if (ps2_queue_take(&kbc->replies, &byte)) {
        fill(kbc, byte, false);
        return;
    }
    if (!timer_armed(&kbc->transfer) && (keyboard_waits(kbc) || mouse_waits(kbc)))
        timer_set(&kbc->transfer, vclock_now(kbc->config.clock) + BYTE_NS);
}

/* Returns false if the byte is only a prefix that goes into the next one. */
static bool translate(struct i8042 *kbc, uint8_t *byte)
{
    if (!(ccb(kbc) & CCB_TRANSLATE))
        return true;
    if (*byte == 0xf0) {
        kbc->break_prefix = 0x80;
        return false;
    }
    if (*byte < sizeof(translation))
        *byte = translation[*byte] | kbc->break_prefix;
    kbc->break_prefix = 0;
    return true;
}

static void transfer_expired(void *ctx, uint64_t now_ns)
{
    struct i8042 *kbc = ctx;
    uint8_t byte;
    (void)now_ns;
    if (kbc->output_full)
        return; /* reading it starts over */
    bool aux = mouse_waits(kbc) && (kbc->aux_turn || !keyboard_waits(kbc));
    kbc->aux_turn = !aux;
    if (aux) {
        if (ps2_mouse_take(&kbc->mouse, &byte))
            fill(kbc, byte, true);
        return;
    }
    while (keyboard_waits(kbc) && ps2_keyboard_take(&kbc->keyboard, &byte)) {
        if (translate(kbc, &byte)) {
            fill(kbc, byte, false);
            return;
        }
    }
}

static void device_ready(void *ctx)
{
    advance(ctx);
}

static void set_output_port(struct i8042 *kbc, uint8_t value)
{
    uint8_t changed = value ^ kbc->output_port;
    kbc->output_port = value;
    if ((changed & PORT_A20) && kbc->config.set_a20)
        kbc->config.set_a20(kbc->config.ctx, value & PORT_A20);
    if ((changed & PORT_RESET) && !(value & PORT_RESET)) {
        kbc->output_port |= PORT_RESET; /* the board's reset releases it */
        if (kbc->config.reset_cpu)
            kbc->config.reset_cpu(kbc->config.ctx);
    }
}

static uint8_t read_output_port(const struct i8042 *kbc)
{
    uint8_t value = (kbc->output_port & (PORT_RESET | PORT_A20)) | PORT_CLOCKS;
    if (kbc->output_full)
        value |= kbc->output_aux ? PORT_AUX_OBF : PORT_KEYBOARD_OBF;
    return value;
}

static void reply(struct i8042 *kbc, uint8_t byte)
{
    ps2_queue_put(&kbc->replies, byte);
    advance(kbc);
}

static void set_ccb(struct i8042 *kbc, uint8_t value)
{
    kbc->ram[0] = value & CCB_WRITABLE;
    update_irqs(kbc);
    advance(kbc);
}

static void execute(struct i8042 *kbc, uint8_t command)
{
    switch (command) {
    case CMD_TEST_PASSWORD:
        reply(kbc, 0xf1); /* none installed */
        break;
    case CMD_LOAD_PASSWORD:
    case CMD_WRITE_OUTPUT_PORT:
    case CMD_WRITE_KEYBOARD_BUFFER:
    case CMD_WRITE_AUX_BUFFER:
    case CMD_WRITE_AUX:
        kbc->command = command;
        break;
    case CMD_ENABLE_PASSWORD: /* without a password nothing happens */
        break;
    case CMD_AUX_OFF:
    case CMD_AUX_ON:
        set_ccb(kbc,
                (uint8_t)((ccb(kbc) & ~CCB_AUX_OFF) | (command == CMD_AUX_OFF ? CCB_AUX_OFF : 0)));
        break;
    case CMD_AUX_TEST:
    case CMD_KEYBOARD_TEST:
        reply(kbc, 0x00); /* no error */
        break;
    case CMD_SELF_TEST:
        kbc->ram[0] |= CCB_SYSTEM;
        reply(kbc, 0x55);
        break;
    case CMD_KEYBOARD_OFF:
    case CMD_KEYBOARD_ON:
        set_ccb(kbc, (uint8_t)((ccb(kbc) & ~CCB_KEYBOARD_OFF) |
                               (command == CMD_KEYBOARD_OFF ? CCB_KEYBOARD_OFF : 0)));
        break;
    case CMD_READ_INPUT_PORT:
        reply(kbc, INPUT_PORT);
        break;
    case CMD_READ_OUTPUT_PORT:
        reply(kbc, read_output_port(kbc));
        break;
    case CMD_A20_OFF:
    case CMD_A20_ON:
        set_output_port(kbc, (uint8_t)((kbc->output_port & ~PORT_A20) |
                                       (command == CMD_A20_ON ? PORT_A20 : 0)));
        break;
    case CMD_READ_TEST_INPUTS:
        reply(kbc, 0x00); /* both clock lines low: held by the controller during the command */
        break;
    default: /* reserved ones do nothing */
        break;
    }
}

static void write_command(struct i8042 *kbc, uint8_t command)
{
    kbc->last_was_command = 1;
    kbc->command = 0;
    if (command >= CMD_PULSE) {
        if (!(command & PORT_RESET) && kbc->config.reset_cpu)
            kbc->config.reset_cpu(kbc->config.ctx);
    } else if ((command & 0xe0) == CMD_READ_RAM) {
        reply(kbc, kbc->ram[command & 0x1f]);
    } else if ((command & 0xe0) == CMD_WRITE_RAM) {
        kbc->command = command;
    } else {
        execute(kbc, command);
    }
}

/* Puts the byte where a device's would go; a byte that is waiting there is overwritten. */
static void loop_back(struct i8042 *kbc, uint8_t byte, bool aux)
{
    kbc->output_full = 0;
    update_irqs(kbc); /* a new edge */
    fill(kbc, byte, aux);
}

static void write_parameter(struct i8042 *kbc, uint8_t command, uint8_t byte)
{
    switch (command) {
    case CMD_LOAD_PASSWORD:
        if (byte) /* a zero ends the password */
            kbc->command = command;
        break;
    case CMD_WRITE_OUTPUT_PORT:
        set_output_port(kbc, byte);
        break;
    case CMD_WRITE_KEYBOARD_BUFFER:
    case CMD_WRITE_AUX_BUFFER:
        loop_back(kbc, byte, command == CMD_WRITE_AUX_BUFFER);
        break;
    case CMD_WRITE_AUX:
        ps2_mouse_write(&kbc->mouse, byte);
        advance(kbc);
        break;
    case CMD_WRITE_RAM:
        set_ccb(kbc, byte);
        break;
    default:
        kbc->ram[command & 0x1f] = byte;
        break;
    }
}

static void write_data(struct i8042 *kbc, uint8_t byte)
{
    uint8_t command = kbc->command;
    kbc->last_was_command = 0;
    kbc->command = 0;
    if (command) {
        write_parameter(kbc, command, byte);
        return;
    }
    /* Sending to the keyboard switches its interface on. */
    kbc->ram[0] &= (uint8_t)~CCB_KEYBOARD_OFF;
    kbc->break_prefix = 0;
    ps2_keyboard_write(&kbc->keyboard, byte);
    advance(kbc);
}

static uint64_t data_read(void *ctx, uint64_t offset, unsigned size)
{
    struct i8042 *kbc = ctx;
    (void)offset;
    (void)size;
    uint8_t value = kbc->output;
    if (kbc->output_full) {
        kbc->output_full = 0;
        update_irqs(kbc);
        advance(kbc);
    }
    return value;
}

static void data_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset;
    (void)size;
    write_data(ctx, (uint8_t)value);
}

static uint64_t status_read(void *ctx, uint64_t offset, unsigned size)
{
    const struct i8042 *kbc = ctx;
    (void)offset;
    (void)size;
    uint64_t value = STATUS_UNLOCKED;
    if (kbc->output_full)
        value |= kbc->output_aux ? STATUS_OBF | STATUS_AUX_OBF : STATUS_OBF;
    if (ccb(kbc) & CCB_SYSTEM)
        value |= STATUS_SYSTEM;
    if (kbc->last_was_command)
        value |= STATUS_COMMAND;
    return value;
}

static void command_write(void *ctx, uint64_t offset, uint64_t value, unsigned size)
{
    (void)offset;
    (void)size;
    write_command(ctx, (uint8_t)value);
}

bool i8042_key(struct i8042 *kbc, unsigned code, bool down)
{
    return ps2_keyboard_key(&kbc->keyboard, code, down);
}

void i8042_mouse(struct i8042 *kbc, int dx, int dy, int dz, unsigned buttons)
{
    ps2_mouse_move(&kbc->mouse, dx, dy, dz, buttons);
}

void i8042_init(struct i8042 *kbc, const struct i8042_config *config)
{
    memset(kbc, 0, sizeof(*kbc));
    kbc->config = *config;
    timer_init(&kbc->transfer, config->timers, transfer_expired, kbc);
    struct ps2_keyboard_config keyboard = {
        .timers = config->timers, .clock = config->clock, .ready = device_ready, .ctx = kbc};
    struct ps2_mouse_config mouse = {
        .timers = config->timers, .clock = config->clock, .ready = device_ready, .ctx = kbc};
    ps2_keyboard_init(&kbc->keyboard, &keyboard);
    ps2_mouse_init(&kbc->mouse, &mouse);
    i8042_reset(kbc);
}

void i8042_reset(struct i8042 *kbc)
{
    memset(kbc->ram, 0, sizeof(kbc->ram));
    /* What firmware leaves behind, for kernels that are started without one. */
    kbc->ram[0] = CCB_KEYBOARD_INT | CCB_SYSTEM | CCB_AUX_OFF | CCB_TRANSLATE;
    kbc->output = kbc->output_full = kbc->output_aux = 0;
    kbc->last_was_command = kbc->command = 0;
    kbc->break_prefix = kbc->aux_turn = 0;
    kbc->output_port = PORT_RESET | PORT_A20;
    ps2_queue_clear(&kbc->replies);
    timer_cancel(&kbc->transfer);
    ps2_keyboard_reset(&kbc->keyboard);
    ps2_mouse_reset(&kbc->mouse);
    update_irqs(kbc);
}

const struct io_ops i8042_data_ops = {data_read, data_write, 1, 1};
const struct io_ops i8042_command_ops = {status_read, command_write, 1, 1};
