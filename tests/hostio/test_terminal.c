/* The stdio back end on a pseudo-terminal, driven as a person would. */
#include <errno.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "hostio/chardev.h"

static void sleep_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* --- the child: a machine that echoes what it receives in brackets --- */
struct guest {
    pthread_mutex_t lock;
    struct chardev *chardev;
    atomic_bool quit;
    bool deaf;
};

static size_t guest_can_receive(void *ctx)
{
    struct guest *guest = ctx;
    return guest->deaf ? 0 : 8;
}

static void guest_receive(void *ctx, const uint8_t *data, size_t size)
{
    struct guest *guest = ctx;
    for (size_t i = 0; i < size; i++) {
        char text[8];
        int length = snprintf(text, sizeof(text), "<%02x>", data[i]);
        chardev_write(guest->chardev, (const uint8_t *)text, (size_t)length);
    }
}

static void guest_quit(void *ctx)
{
    struct guest *guest = ctx;
    atomic_store(&guest->quit, true);
}

static int guest_main(bool deaf)
{
    struct guest guest = {.lock = PTHREAD_MUTEX_INITIALIZER, .deaf = deaf};
    const struct chardev_receiver receiver = {&guest, guest_can_receive, guest_receive};
    if (chardev_open(&guest.chardev, "stdio", guest_quit, &guest, NULL))
        return 9;
    chardev_connect(guest.chardev, &receiver, &guest.lock);
    chardev_write(guest.chardev, (const uint8_t *)"ready", 5);
    for (int i = 0; i < 5000 && !atomic_load(&guest.quit); i++)
        sleep_ms(1);
    chardev_write(guest.chardev, (const uint8_t *)"bye", 3);
    chardev_close(guest.chardev);
    return atomic_load(&guest.quit) ? 0 : 8;
}

/* --- the parent: the person at the terminal --- */
struct person {
    int master;
    pid_t child;
    char seen[4096];
    size_t count;
};

static void person_start(struct person *person, bool deaf)
{
    memset(person, 0, sizeof(*person));
    fflush(NULL);
    person->child = forkpty(&person->master, NULL, NULL, NULL);
    assert_true(person->child >= 0);
    if (person->child == 0) {
        signal(SIGSEGV, SIG_DFL); /* the test framework catches it */
        _exit(guest_main(deaf));
    }
}

static bool person_sees(struct person *person, const char *text)
{
    for (int i = 0; i < 300; i++) {
        if (strstr(person->seen, text))
            return true;
        struct pollfd pollfd = {.fd = person->master, .events = POLLIN};
        if (poll(&pollfd, 1, 10) > 0 && person->count < sizeof(person->seen) - 1) {
            ssize_t size = read(person->master, person->seen + person->count,
                                sizeof(person->seen) - 1 - person->count);
            if (size > 0)
                person->count += (size_t)size;
            else
                sleep_ms(10);
        }
    }
    return false;
}

static void person_types(struct person *person, const char *keys)
{
    assert_true(write(person->master, keys, strlen(keys)) == (ssize_t)strlen(keys));
}

static bool terminal_is_raw(struct person *person)
{
    struct termios settings;
    assert_int_equal(tcgetattr(person->master, &settings), 0);
    return !(settings.c_lflag & (ICANON | ECHO | ISIG));
}

static bool terminal_becomes(struct person *person, bool raw)
{
    for (int i = 0; i < 200; i++) {
        if (terminal_is_raw(person) == raw)
            return true;
        sleep_ms(10);
    }
    return false;
}

static int person_waits(struct person *person)
{
    int status = -1;
    for (int i = 0; i < 500; i++) {
        pid_t pid = waitpid(person->child, &status, WNOHANG);
        if (pid == person->child)
            return status;
        sleep_ms(10);
    }
    kill(person->child, SIGKILL);
    waitpid(person->child, &status, 0);
    return -1;
}

static void test_keys(void **state)
{
    (void)state;
    struct person person;
    person_start(&person, false);
    assert_true(person_sees(&person, "ready"));
    assert_true(terminal_is_raw(&person));
    person_types(&person, "a\x03\r\x1a\x11"); /* ^C, Enter, ^Z, ^Q go to the guest */
    assert_true(person_sees(&person, "<61><03><0d><1a><11>"));
    person_types(&person, "\x01\x01");
    assert_true(person_sees(&person, "<11><01>"));
    person_types(&person, "\x01h");
    assert_true(person_sees(&person, "quit the virtual machine"));
    person_types(&person, "\x01x");
    assert_true(person_sees(&person, "bye"));
    assert_int_equal(person_waits(&person), 0);
    assert_false(terminal_is_raw(&person)); /* restored, as seen from the other end */
    close(person.master);
}

/* Quit works although the guest takes no input and the buffer is full. */
static void test_quit_from_deaf_guest(void **state)
{
    (void)state;
    struct person person;
    char keys[1001];
    person_start(&person, true);
    assert_true(person_sees(&person, "ready"));
    memset(keys, 'k', sizeof(keys) - 1);
    keys[sizeof(keys) - 1] = 0;
    for (int i = 0; i < 10; i++)
        person_types(&person, keys);
    person_types(&person, "\x01x");
    assert_int_equal(person_waits(&person), 0);
    close(person.master);
}

static void test_fatal_signal_restores(void **state)
{
    (void)state;
    static const int numbers[] = {SIGTERM, SIGSEGV, SIGHUP};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct person person;
        person_start(&person, false);
        assert_true(person_sees(&person, "ready"));
        assert_true(terminal_is_raw(&person));
        kill(person.child, numbers[i]);
        int status = person_waits(&person);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), numbers[i]);
        assert_false(terminal_is_raw(&person));
        close(person.master);
    }
}

static void test_stop_and_continue(void **state)
{
    (void)state;
    struct person person;
    int status;
    person_start(&person, false);
    assert_true(person_sees(&person, "ready"));
    /* The child leads an orphaned session, where SIGTSTP stops nobody; its handler still runs. */
    kill(person.child, SIGSTOP);
    assert_int_equal(waitpid(person.child, &status, WUNTRACED), person.child);
    assert_true(WIFSTOPPED(status));
    struct termios settings;
    assert_int_equal(tcgetattr(person.master, &settings), 0);
    settings.c_lflag |= ICANON | ECHO | ISIG; /* as a shell does while the job is stopped */
    assert_int_equal(tcsetattr(person.master, TCSANOW, &settings), 0);
    kill(person.child, SIGCONT);
    assert_true(terminal_becomes(&person, true));
    kill(person.child, SIGTSTP);
    sleep_ms(50);
    kill(person.child, SIGCONT);
    assert_true(terminal_becomes(&person, true));
    person_types(&person, "z");
    assert_true(person_sees(&person, "<7a>"));
    person_types(&person, "\x01x");
    assert_int_equal(person_waits(&person), 0);
    close(person.master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_quit_from_deaf_guest),
        cmocka_unit_test(test_fatal_signal_restores),
        cmocka_unit_test(test_stop_and_continue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
