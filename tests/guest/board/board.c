#include "board.h"

void (*handlers[256])(const struct frame *frame);
volatile unsigned long fault_resume;
volatile int fault_vector;
void on_interrupt(struct frame *frame);

static unsigned failures;

static void print(const char *text)
{
    for (; *text; text++) {
        while (!(in8(0x3fd) & 0x20))
            ;
        out8(0x3f8, (uint8_t)*text);
    }
}

static void print_number(uint64_t value)
{
    char text[17];
    for (unsigned i = 0; i < 16; i++)
        text[i] = "0123456789abcdef"[value >> (60 - 4 * i) & 15];
    text[16] = 0;
    print(text);
}

void board_check(bool good, const char *what, uint64_t value, int line)
{
    if (good)
        return;
    failures++;
    print("FAIL line ");
    print_number((uint64_t)line);
    print(": ");
    print(what);
    print(", value ");
    print_number(value);
    print("\n");
}

void board_end(void)
{
    if (!failures)
        print("PASS\n");
    out32(0xf4, failures ? 0x11 : 0x10);
    for (;;)
        __asm__ volatile("cli; hlt");
}

void on_interrupt(struct frame *frame)
{
    if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
    } else if (frame->vector < 32 && fault_resume) {
        fault_vector = (int)frame->vector;
        frame->ip = fault_resume;
    } else {
        print("unexpected interrupt, vector, error and address ");
        print_number(frame->vector);
        print(" ");
        print_number(frame->error);
        print(" ");
        print_number(frame->ip);
        print("\n");
        failures++;
        board_end();
    }
}

void board_use_apic(void)
{
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    apic_write(APIC_SVR, 0x1ff);
}
