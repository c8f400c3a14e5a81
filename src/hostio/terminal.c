#include "hostio/terminal.h"

#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <termios.h>
#include <unistd.h>

enum { SIGNAL_COUNT = 13 };

static const int fatal_signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGABRT, SIGSEGV,
                                    SIGBUS, SIGFPE, SIGILL,  SIGTRAP, SIGSYS};

/*
 * A signal handler has no argument to carry its context, and the terminal is the process's: this is
 * the one registration that cannot live in an object.
 */
static struct {
    atomic_flag taken;
    atomic_int fd; /* -1: no session, handlers do nothing */
    struct termios cooked, raw;
    struct {
        int number;
        struct sigaction old;
        bool installed;
    } signals[SIGNAL_COUNT];
} session = {.taken = ATOMIC_FLAG_INIT, .fd = -1};

bool terminal_in_background(int fd)
{
    pid_t foreground = tcgetpgrp(fd);
    return foreground != -1 && foreground != getpgrp();
}

/* Async-signal-safe. A background process would be stopped by SIGTTOU: leave the terminal alone. */
static void apply(const struct termios *settings)
{
    int fd = atomic_load(&session.fd);
    if (fd >= 0 && !terminal_in_background(fd))
        tcsetattr(fd, TCSANOW, settings);
}

void terminal_rescue(void)
{
    apply(&session.cooked);
}

static void on_fatal(int number)
{
    terminal_rescue();
    signal(number, SIG_DFL);
    raise(number); /* taken with the default action when this handler returns */
}

static void on_stop(int number);

static void handle(int number, void (*function)(int))
{
    struct sigaction action = {.sa_handler = function, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

static void on_stop(int number)
{
    sigset_t set;
    apply(&session.cooked);
    sigemptyset(&set);
    sigaddset(&set, number);
    signal(number, SIG_DFL);
    raise(number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL); /* stops here */
    handle(number, on_stop);
    apply(&session.raw);
}

static void on_continue(int number)
{
    (void)number;
    apply(&session.raw);
}

static void install(size_t slot, int number, void (*function)(int))
{
    struct sigaction old;
    session.signals[slot].number = number;
    session.signals[slot].installed = false;
    if (sigaction(number, NULL, &old) || (old.sa_flags & SA_SIGINFO) || old.sa_handler != SIG_DFL)
        return;
    session.signals[slot].old = old;
    session.signals[slot].installed = true;
    handle(number, function);
}

void terminal_guard_crashes(void)
{
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct sigaction old;
        if (sigaction(numbers[i], NULL, &old) == 0 && !(old.sa_flags & SA_SIGINFO) &&
            old.sa_handler == SIG_DFL)
            handle(numbers[i], on_fatal);
    }
}

/* Somebody else's handler on top of ours stays: it may still pass signals on to us. */
static void uninstall(size_t slot)
{
    struct sigaction now;
    int number = session.signals[slot].number;
    if (session.signals[slot].installed && sigaction(number, NULL, &now) == 0 &&
        !(now.sa_flags & SA_SIGINFO) &&
        (now.sa_handler == on_fatal || now.sa_handler == on_stop || now.sa_handler == on_continue))
        sigaction(number, &session.signals[slot].old, NULL);
    session.signals[slot].installed = false;
}

int terminal_raw_enter(int fd)
{
    if (!isatty(fd) || atomic_flag_test_and_set(&session.taken))
        return -1;
    if (tcgetattr(fd, &session.cooked)) {
        atomic_flag_clear(&session.taken);
        return -1;
    }
    session.raw = session.cooked;
    session.raw.c_iflag &=
        (tcflag_t) ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    session.raw.c_lflag &= (tcflag_t) ~(ECHO | ECHONL | ICANON | IEXTEN | ISIG);
    session.raw.c_cflag &= (tcflag_t) ~(CSIZE | PARENB);
    session.raw.c_cflag |= CS8;
    session.raw.c_cc[VMIN] = 1;
    session.raw.c_cc[VTIME] = 0;
    atomic_store(&session.fd, fd);

    size_t slot = 0;
    for (size_t i = 0; i < sizeof(fatal_signals) / sizeof(fatal_signals[0]); i++)
        install(slot++, fatal_signals[i], on_fatal);
    install(slot++, SIGTSTP, on_stop);
    install(slot++, SIGCONT, on_continue);
    apply(&session.raw);
    return 0;
}

void terminal_raw_leave(void)
{
    if (atomic_load(&session.fd) < 0)
        return;
    apply(&session.cooked);
    for (size_t i = 0; i < SIGNAL_COUNT; i++)
        uninstall(i);
    atomic_store(&session.fd, -1);
    atomic_flag_clear(&session.taken);
}
