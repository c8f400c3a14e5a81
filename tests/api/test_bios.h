/*
 * Tiny BIOS images, each a few instructions of real mode that end a machine in one way: what the
 * interfaces report about it can be tested without an operating system.
 */
#ifndef VD_TESTS_API_TEST_BIOS_H
#define VD_TESTS_API_TEST_BIOS_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BIOS_SIZE = 65536 };

struct bios {
    const char *name;
    uint8_t code[64];
};

/* clang-format off */
static const struct bios bios_debug_exit = {"debug-exit", {
    0xb0, 0x15,             /* mov al, 15h */
    0xe6, 0xf4,             /* out F4h, al */
    0xf4, 0xeb, 0xfd}};     /* 1: hlt; jmp 1b */
static const struct bios bios_power_off = {"power-off", {
    0xba, 0xf8, 0x0c, 0x66, 0xb8, 0x40, 0x0b, 0x00, 0x80, 0x66, 0xef, /* CONFIG_ADDRESS = 1.3:40 */
    0xba, 0xfc, 0x0c, 0x66, 0xb8, 0x01, 0xb0, 0x00, 0x00, 0x66, 0xef, /* PM base B000h */
    0xba, 0xf8, 0x0c, 0x66, 0xb8, 0x80, 0x0b, 0x00, 0x80, 0x66, 0xef, /* 1.3:80 */
    0xba, 0xfc, 0x0c, 0xb0, 0x01, 0xee,                               /* enabled */
    0xba, 0x04, 0xb0, 0xb8, 0x00, 0x20, 0xef,                         /* PM control: SLP_EN */
    0xf4, 0xeb, 0xfd}};
static const struct bios bios_triple_fault = {"triple-fault", {
    0x2e, 0x0f, 0x01, 0x1e, 0x08, 0x00, /* lidt cs:[8] */
    0xcc, 0x90,                         /* int3 */
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00}};
static const struct bios bios_reset = {"reset", {
    0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, /* reset control CF9h: hard reset */
    0xf4, 0xeb, 0xfd}};
static const struct bios bios_halt = {"halt", {
    0xfa, 0xf4, 0xeb, 0xfd}};           /* cli; 1: hlt; jmp 1b */
static const struct bios bios_spin = {"spin", {
    0xeb, 0xfe}};
static const struct bios bios_serial = {"serial", {
    0xba, 0xfb, 0x03, 0xb0, 0x03, 0xee, /* line control: 8 bits */
    0xba, 0xf8, 0x03, 0xb0, 'o', 0xee, 0xb0, 'k', 0xee,
    0xb0, 0x00, 0xe6, 0xf4, 0xf4}};
/* Ports that nobody claims, 80h and 190h for progress codes; then output without any set-up. */
static const struct bios bios_early = {"early", {
    0xb0, 0x12, 0xe6, 0x80,                         /* out 80h, al */
    0xba, 0x90, 0x01, 0xee, 0xef, 0x66, 0xef,       /* out 190h, al, ax, eax */
    0xe6, 0xed, 0xec, 0x3c, 0xff, 0x75, 0x13,       /* out EDh; in al, 190h must be FFh */
    0xb0, 'd', 0xba, 0x02, 0x04, 0xee,              /* out 402h */
    0xb0, 'o', 0xba, 0xf8, 0x03, 0xee, 0xb0, 'k', 0xee,
    0xb0, 0x00, 0xe6, 0xf4, 0xf4}};
/* Progress codes on port 190h. */
static const struct bios bios_progress = {"progress", {
    0xba, 0x90, 0x01, 0xb0, 0x0e, 0xee, 0xb0, 0xff, 0xee,
    0xb0, 0x00, 0xe6, 0xf4, 0xf4}};
/* Echoes bytes from COM1 with bit 5 flipped; '!' ends. */
static const struct bios bios_echo = {"echo", {
    0xba, 0xfb, 0x03, 0xb0, 0x03, 0xee,
    0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xf8, /* 1: wait for data ready */
    0xba, 0xf8, 0x03, 0xec, 0x3c, '!', 0x74, 0x05,  /* '!' -> 2 */
    0x34, 0x20, 0xee, 0xeb, 0xeb,                   /* xor al, 20h; out; jmp 1b */
    0xb0, 0x03, 0xe6, 0xf4, 0xf4}};                 /* 2: exit */
/* clang-format on */

/* Writes the image to folder/name; returns 0. */
static inline int bios_write(const struct bios *bios, const char *folder, char *path, size_t size)
{
    static const uint8_t reset_vector[] = {0xea, 0x00, 0x00, 0x00, 0xf0}; /* jmp F000:0000 */
    static uint8_t image[BIOS_SIZE];
    memset(image, 0xf4, sizeof(image));
    memcpy(image, bios->code, sizeof(bios->code));
    memcpy(image + 0xfff0, reset_vector, sizeof(reset_vector));
    snprintf(path, size, "%s/%s", folder, bios->name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        return -1;
    ssize_t done = write(fd, image, sizeof(image));
    close(fd);
    return done == (ssize_t)sizeof(image) ? 0 : -1;
}

#endif
