/*
 * libvedette: virtual PCs on any x86-64 Linux host.
 *
 *     struct vd_config config;
 *     struct vd_error_text error;
 *     struct vd_vm *vm;
 *     struct vd_outcome outcome;
 *
 *     vd_config_init(&config);
 *     config.kernel = "bzImage";
 *     config.append = "console=ttyS0";
 *     config.serial[0] = "stdio";
 *     if (vd_vm_create(&vm, &config, &error) == VD_OK) {
 *         if (vd_vm_run(vm, &outcome, &error) == VD_OK)
 *             ... outcome.kind ...
 *         vd_vm_destroy(vm);
 *     }
 *
 * One process may hold any number of machines, each used from any thread; the functions that may be
 * called while another thread is inside vd_vm_run say so. No function ends the process or prints,
 * but for log lines (vd_log_level) and what the configuration sends to a terminal or file.
 */
#ifndef VEDETTE_VEDETTE_H
#define VEDETTE_VEDETTE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VD_VERSION "0.1.0"

enum vd_result {
    VD_OK = 0,
    VD_ERROR_USAGE = 1, /* the configuration cannot work: unknown name, impossible size */
    VD_ERROR_HOST = 2,  /* a file, memory, a thread, ... could not be had */
};

/* Filled when a function fails: one line without a newline that names the file and the reason. */
struct vd_error_text {
    char text[512];
};

enum vd_trace {                             /* bits of vd_config.trace; traces go to the log */
                VD_TRACE_BLOCKS = 1 << 0,   /* translated blocks */
                VD_TRACE_EXITS = 1 << 1,    /* returns to the engine */
                VD_TRACE_CALLOUTS = 1 << 2, /* instructions done in C */
                VD_TRACE_INT = 1 << 3,      /* interrupts and exceptions delivered */
};

enum { VD_SERIAL_COUNT = 2 };
enum { VD_DEBUG_EXIT_PORT = 0xf4 }; /* where test kernels look for isa-debug-exit */

/*
 * What the machine is made of. Strings and files are used during vd_vm_create only. A path of NULL
 * means "none", or the default where one is named.
 */
struct vd_config {
    uint64_t ram_size;    /* bytes, a multiple of 1 MiB; default 128 MiB */
    const char *cpu;      /* model, see vd_cpu_model; NULL: the default */
    const char *engine;   /* see vd_engine; NULL: "auto" */
    const char *firmware; /* PC BIOS image; NULL: the installed SeaBIOS */
    const char *vgabios;  /* VGA BIOS image; NULL: the installed one, if there is one; "none" */
    const char *kernel;   /* Linux bzImage or multiboot kernel, started without a boot loader */
    const char *initrd;   /* needs kernel; multiboot: modules, "FILE [ARGUMENTS],..." */
    const char *append;   /* kernel command line, needs kernel */
    /* Character devices: "stdio", "file:PATH", "none"; NULL: "none". stdio goes to one of them. */
    const char *serial[VD_SERIAL_COUNT]; /* COM1, COM2 */
    const char *debugcon;                /* a port that prints; exists only if this is set */
    uint16_t debugcon_port;              /* where; default 402h, the firmware's */
    const char *post_codes;              /* codes written to ports 80h and 190h, "080 1f\n" each */
    const char *display;                 /* "none", "text"; NULL: "none" */
    unsigned trace;                      /* enum vd_trace */
    uint16_t debug_exit_port;            /* isa-debug-exit, see VD_DEBUG_EXIT; 0: no such device */
    int test_device;                     /* not 0: the device for test kernels, docs/testing.md */
    int no_reboot;                       /* not 0: a guest that resets the machine ends the run */
    uint64_t code_cache_size;            /* bytes, 0: default */
    int count_events; /* not 0: vd_vm_stats counts blocks and branches, too (slower) */
    int exact_flags;  /* not 0: arithmetic flags that nothing reads are right in every EFLAGS image
                         that an exception or interrupt pushes, too (slower) */
    /* Called once when the user quits from a terminal (Ctrl-A x); vd_vm_stop is called anyway. */
    void (*quit)(void *ctx);
    void *quit_ctx;
};

/* Fills in the defaults. Call it first, so that fields added later are right. */
void vd_config_init(struct vd_config *config);

enum vd_outcome_kind {
    VD_POWERED_OFF,  /* the guest switched the machine off */
    VD_STOPPED,      /* vd_vm_stop, or the user quit */
    VD_REBOOT,       /* the guest asked for a reset and no_reboot was set */
    VD_TRIPLE_FAULT, /* text says where */
    VD_DEBUG_EXIT,   /* the guest wrote to isa-debug-exit */
};

struct vd_outcome {
    enum vd_outcome_kind kind;
    uint32_t value; /* VD_DEBUG_EXIT: the exit code, the value written * 2 + 1 */
    char text[256]; /* one line for people; empty if there is nothing to say */
};

struct vd_vm;

/*
 * Builds a machine. Checks everything that can be checked, so that a run does not fail for a reason
 * that was visible before; on failure nothing is left behind and *vm is untouched.
 */
enum vd_result vd_vm_create(struct vd_vm **vm, const struct vd_config *config,
                            struct vd_error_text *error);

/*
 * Runs until one of the outcomes and returns VD_OK, or VD_ERROR_HOST when the host let the machine
 * down. May be called again, except after an error: the machine goes on where it stopped (after
 * VD_POWERED_OFF, VD_REBOOT and VD_TRIPLE_FAULT call vd_vm_reset first). One thread at a time.
 */
enum vd_result vd_vm_run(struct vd_vm *vm, struct vd_outcome *outcome, struct vd_error_text *error);

/* Makes vd_vm_run return VD_STOPPED soon, or at once if it is called later. Any thread. */
void vd_vm_stop(struct vd_vm *vm);

/* Presses the reset button. Any thread, before or during vd_vm_run. */
void vd_vm_reset(struct vd_vm *vm);

/* Writes the screen as a PNG file (replaced if it exists). Any thread. */
enum vd_result vd_vm_screenshot(struct vd_vm *vm, const char *path, struct vd_error_text *error);

/*
 * Writes the text screen as UTF-8 lines of at most size - 1 bytes in all and a NUL; returns the
 * length, 0 in graphics modes. Any thread.
 */
size_t vd_vm_screen_text(struct vd_vm *vm, char *text, size_t size);

/* Prints the engine's statistics as lines or as one JSON object. Not while vd_vm_run runs. */
void vd_vm_stats(struct vd_vm *vm, FILE *out, int json);

/* Frees everything; terminals and screens are restored. Not while vd_vm_run runs. NULL is fine. */
void vd_vm_destroy(struct vd_vm *vm);

/* Names for vd_config.cpu and .engine, by index; NULL at the end. */
const char *vd_cpu_model(size_t index);
const char *vd_engine(size_t index);

/* Lines above the level are not printed: 0 errors, 1 warnings (default), 2 info, 3 debug. */
void vd_log_level(int level);

struct vd_scan_options {
    unsigned bits; /* 16, 32 or 64: code size of a file without a format; 0: boot sectors only */
    int has_base;  /* not 0: base is the address of such a file's first byte */
    uint64_t base;
    int has_entry; /* not 0: execution also starts at entry */
    uint64_t entry;
    int json; /* not 0: one JSON object instead of text */
};

void vd_scan_options_init(struct vd_scan_options *options);

/* Decodes and classifies the code of a file as the translator would, and prints a report. */
enum vd_result vd_scan(const char *path, const struct vd_scan_options *options, FILE *out,
                       struct vd_error_text *error);

#ifdef __cplusplus
}
#endif

#endif
