/* Printing, checks and exception dispatch of the 64-bit multiboot test programs. */
#include "machine64.h"

void (*handlers[256])(struct frame *);
volatile struct frame seen;
volatile uint64_t resume, resume_rsp;
static unsigned checks, failures;

extern uint8_t user_entry[];
void dispatch(struct frame *frame);

static void print_byte(char byte)
{
    while (!(in8(0x3fd) & 0x20))
        ;
    out8(0x3f8, (uint8_t)byte);
}

void print(const char *text)
{
    for (; *text; text++)
        print_byte(*text);
}

void print_number(uint64_t value)
{
    int shift = 60;
    while (shift && !(value >> shift))
        shift -= 4;
    for (; shift >= 0; shift -= 4)
        print_byte("0123456789abcdef"[value >> shift & 15]);
}

void check(bool good, const char *name, uint64_t value)
{
    checks++;
    if (good)
        return;
    if (failures++ > 40)
        return;
    print("FAIL ");
    print(name);
    print(": ");
    print_number(value);
    print("\n");
}

void finish(void)
{
    print(failures ? "FAILED " : "PASS ");
    print_number(failures ? failures : checks);
    print("\n");
    out8(0xf4, failures ? 0x11 : 0x10);
}

static void unexpected(struct frame *frame)
{
    print("unexpected vector ");
    print_number(frame->vector);
    print(" error ");
    print_number(frame->error);
    print(" rip ");
    print_number(frame->rip);
    print(" cr2 ");
    print_number(read_cr2());
    print("\n");
    failures++;
    finish();
    for (;;)
        __asm__ volatile("cli; hlt");
}

void dispatch(struct frame *frame)
{
    if (frame->vector == USER_RETURN) {
        frame->rip = (uint64_t)user_entry;
        frame->cs = KERNEL_CODE;
        frame->ss = KERNEL_DATA;
        frame->rflags = 2;
        frame->rsp = (uint64_t)tss; /* user_entry has its own */
    } else if (handlers[frame->vector]) {
        handlers[frame->vector](frame);
    } else if (resume) {
        seen = *frame;
        frame->rip = resume;
        frame->rsp = resume_rsp;
        resume = 0;
    } else {
        unexpected(frame);
    }
}
