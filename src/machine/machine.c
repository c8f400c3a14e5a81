/*
 * Life of a machine.
 *
 * The processor runs on the runner's thread; devices that want to end or reset the machine are
 * called there too, in the middle of an instruction. They only leave a note: an end in `result`
 * (the first one counts), a reset in `reset_wanted`, which the runner's service call carries out
 * with the processor stopped.
 *
 * The machine lock guards everything here; machine_run sleeps on `changed`, which belongs to it.
 */
#include "machine/machine.h"

#include <stdlib.h>
#include <string.h>

#include "machine/pc.h"
#include "sched/runner.h"

enum reset_kind { RESET_NONE, RESET_CPU, RESET_ALL };

struct machine {
    struct pc pc;
    const struct engine_ops *engine;
    struct vcpu *vcpu;
    bool no_reboot;
    bool button; /* reset_wanted comes from machine_reset, not from the guest */
    enum reset_kind reset_wanted;
    struct runner *runner; /* NULL: not running */
    bool running;          /* inside machine_run */
    bool stop_wanted;      /* machine_stop came before machine_run */
    bool ended, failed;
    struct machine_result result;
    struct vd_error error; /* failed */
    pthread_cond_t changed;
};

static void lock(struct machine *machine)
{
    pthread_mutex_lock(as_lock(machine->pc.as));
}

static void unlock(struct machine *machine)
{
    pthread_mutex_unlock(as_lock(machine->pc.as));
}

/* --- notes from devices; lock held --- */

static void end_run(struct machine *machine, enum machine_end end, uint32_t value)
{
    if (machine->ended)
        return;
    machine->ended = true;
    machine->result.end = end;
    machine->result.value = value;
    if (machine->runner)
        runner_stop(machine->runner);
    pthread_cond_broadcast(&machine->changed);
}

static void request_reset(struct machine *machine, enum reset_kind kind)
{
    if (kind > machine->reset_wanted)
        machine->reset_wanted = kind;
    if (machine->runner)
        runner_request_service(machine->runner);
}

static void on_interrupt(void *ctx)
{
    struct machine *machine = ctx;
    if (machine->runner)
        runner_interrupt(machine->runner);
    else if (machine->vcpu)
        machine->engine->vcpu_interrupt(machine->vcpu);
}

static void on_nmi(void *ctx)
{
    struct machine *machine = ctx;
    if (machine->vcpu)
        machine->engine->vcpu_nmi(machine->vcpu);
    on_interrupt(machine);
}

static void on_reset(void *ctx, bool hard)
{
    request_reset(ctx, hard ? RESET_ALL : RESET_CPU);
}

static void on_power_off(void *ctx)
{
    end_run(ctx, MACHINE_POWERED_OFF, 0);
}

static void on_debug_exit(void *ctx, uint32_t code)
{
    end_run(ctx, MACHINE_DEBUG_EXIT, code);
}

/* --- the runner's calls --- */

/* Lock held, processor stopped. INIT leaves the devices as they are; the local APIC has seen it. */
static void carry_out_reset(struct machine *machine)
{
    enum reset_kind kind = machine->reset_wanted;
    machine->reset_wanted = RESET_NONE;
    machine->button = false;
    if (kind == RESET_ALL) {
        pc_reset(&machine->pc);
        machine->engine->vcpu_reset(machine->vcpu);
    } else {
        as_set_a20(machine->pc.as, true); /* or the reset vector is not where the BIOS is */
        machine->engine->vcpu_init(machine->vcpu);
    }
}

static void on_service(void *ctx)
{
    struct machine *machine = ctx;
    if (machine->reset_wanted == RESET_NONE || machine->ended)
        return;
    if (machine->reset_wanted == RESET_ALL && machine->no_reboot && !machine->button)
        end_run(machine, MACHINE_REBOOT, 0);
    else
        carry_out_reset(machine);
}

static void describe_shutdown(struct machine *machine)
{
    struct x86_cpu *cpu = calloc(1, sizeof(*cpu));
    if (!cpu)
        return;
    machine->engine->vcpu_get_state(machine->vcpu, cpu);
    snprintf(machine->result.text, sizeof(machine->result.text),
             "triple fault at %04x:%llx (linear %llx)", cpu->seg[X86_CS].selector,
             (unsigned long long)cpu->rip, (unsigned long long)(cpu->seg[X86_CS].base + cpu->rip));
    free(cpu);
}

static bool on_stopped(void *ctx, enum vcpu_exit reason, const struct vd_error *err)
{
    struct machine *machine = ctx;
    lock(machine);
    /*
     * Software follows a reset command with a triple fault in case it does not work; here the
     * command takes effect a few instructions late.
     */
    if (reason == VCPU_EXIT_SHUTDOWN && machine->reset_wanted != RESET_NONE) {
        on_service(machine);
    } else if (!machine->ended) {
        if (reason == VCPU_EXIT_SHUTDOWN) {
            describe_shutdown(machine);
        } else {
            machine->failed = true;
            machine->error = *err;
        }
        end_run(machine, MACHINE_TRIPLE_FAULT, 0);
    }
    bool go_on = !machine->ended;
    unlock(machine);
    return go_on;
}

/* --- interface --- */

int machine_check_memory(uint64_t ram_size, const char *cpu_model, struct vd_error *err)
{
    struct cpuid_model model;
    if (!ram_size || ram_size % (1 << 20))
        return error_set(err, "memory: %llu bytes are not a multiple of 1 MiB",
                         (unsigned long long)ram_size);
    if (cpuid_model_init(&model, cpu_model, err) < 0)
        return -1;
    if (pc_memory_end(ram_size) > 1ull << model.phys_bits)
        return error_set(err, "memory: %llu MiB are more than a processor with %u address bits has",
                         (unsigned long long)ram_size >> 20, model.phys_bits);
    return 0;
}

static int check_config(const struct machine_config *config, struct vd_error *err)
{
    if (machine_check_memory(config->ram_size, config->cpu_model, err) < 0)
        return -1;
    if (!config->kernel && config->initrd)
        return error_set(err, "initrd %s: needs a kernel", config->initrd);
    if (!config->kernel && config->append)
        return error_set(err, "kernel command line: needs a kernel");
    return 0;
}

static int create_vcpu(struct machine *machine, const struct machine_config *config,
                       struct vd_error *err)
{
    struct engine_config engine = {.as = machine->pc.as,
                                   .cpuid = machine->pc.cpuid,
                                   .trace = config->trace,
                                   .code_cache_size = config->code_cache_size,
                                   .count_events = config->count_events,
                                   .exact_flags = config->exact_flags};
    pc_platform(&machine->pc, &engine.platform);
    return machine->engine->vcpu_create(&machine->vcpu, &engine, err);
}

int machine_create(struct machine **out, const struct machine_config *config, struct vd_error *err)
{
    if (check_config(config, err) < 0)
        return -1;
    struct machine *machine = calloc(1, sizeof(*machine));
    if (!machine)
        return error_set(err, "machine: no memory");
    machine->engine = config->engine;
    machine->no_reboot = config->no_reboot;
    pthread_cond_init(&machine->changed, NULL);
    struct pc_host host = {.ctx = machine,
                           .interrupt = on_interrupt,
                           .nmi = on_nmi,
                           .reset = on_reset,
                           .power_off = on_power_off,
                           .debug_exit = on_debug_exit};
    if (pc_init(&machine->pc, config, &host, err) < 0 || create_vcpu(machine, config, err) < 0) {
        machine_destroy(machine);
        return -1;
    }
    *out = machine;
    return 0;
}

void machine_destroy(struct machine *machine)
{
    if (!machine)
        return;
    if (machine->vcpu)
        machine->engine->vcpu_destroy(machine->vcpu);
    pc_destroy(&machine->pc);
    pthread_cond_destroy(&machine->changed);
    free(machine);
}

/* The reset button may have been pressed while nothing ran. False: end at once. */
static bool prepare_run(struct machine *machine)
{
    lock(machine);
    machine->running = true;
    machine->ended = machine->failed = false;
    machine->result = (struct machine_result){.end = MACHINE_STOPPED};
    if (machine->reset_wanted != RESET_NONE)
        carry_out_reset(machine);
    machine->ended = machine->stop_wanted;
    machine->stop_wanted = false;
    bool go_on = !machine->ended;
    if (go_on)
        vclock_resume(&machine->pc.clock);
    unlock(machine);
    return go_on;
}

static void finish_run(struct machine *machine)
{
    lock(machine);
    if (!machine->pc.clock.paused)
        vclock_pause(&machine->pc.clock);
    machine->running = false;
    unlock(machine);
}

static void wait_for_end(struct machine *machine, struct runner *runner)
{
    lock(machine);
    machine->runner = runner;
    if (machine->reset_wanted != RESET_NONE)
        runner_request_service(runner);
    runner_resume(runner); /* the guest's first instruction may be the end already */
    while (!machine->ended)
        pthread_cond_wait(&machine->changed, as_lock(machine->pc.as));
    machine->runner = NULL;
    unlock(machine);
    runner_stop(runner);
    runner_join(runner);
}

int machine_run(struct machine *machine, struct machine_result *result, struct vd_error *err)
{
    struct runner_config config = {.ops = machine->engine,
                                   .vcpu = machine->vcpu,
                                   .lock = as_lock(machine->pc.as),
                                   .timers = &machine->pc.timers,
                                   .clock = &machine->pc.clock,
                                   .ctx = machine,
                                   .service = on_service,
                                   .stopped = on_stopped,
                                   .paused = true};
    struct runner *runner;
    if (prepare_run(machine)) {
        if (runner_start(&runner, &config, err) < 0) {
            finish_run(machine);
            return -1;
        }
        wait_for_end(machine, runner);
    }
    finish_run(machine);
    if (machine->failed)
        return error_set(err, "%s", machine->error.text);
    *result = machine->result;
    return 0;
}

void machine_stop(struct machine *machine)
{
    lock(machine);
    if (machine->running)
        end_run(machine, MACHINE_STOPPED, 0);
    else
        machine->stop_wanted = true;
    unlock(machine);
}

void machine_reset(struct machine *machine)
{
    lock(machine);
    machine->button = true;
    request_reset(machine, RESET_ALL);
    unlock(machine);
}

void machine_power_button(struct machine *machine)
{
    lock(machine);
    piix4_pm_power_button(&machine->pc.pm);
    unlock(machine);
}

bool machine_key(struct machine *machine, unsigned code, bool down)
{
    lock(machine);
    bool taken = i8042_key(&machine->pc.kbc, code, down);
    unlock(machine);
    return taken;
}

void machine_mouse(struct machine *machine, int dx, int dy, int dz, unsigned buttons)
{
    lock(machine);
    i8042_mouse(&machine->pc.kbc, dx, dy, dz, buttons);
    unlock(machine);
}

void machine_stats(struct machine *machine, FILE *out, bool json)
{
    machine->engine->vcpu_stats(machine->vcpu, out, json);
}

struct address_space *machine_address_space(struct machine *machine)
{
    return machine->pc.as;
}
