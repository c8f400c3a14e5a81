#include "hostio/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hostio/input_pump.h"
#include "hostio/output_queue.h"
#include "hostio/terminal.h"

enum chardev_kind { CHARDEV_NONE, CHARDEV_STDIO, CHARDEV_FILE, CHARDEV_CALLBACK };
enum { EARLY_SIZE = 4096 };

struct chardev {
    /* guest side; guarded by mutex, which is never held while the machine lock is taken */
    pthread_mutex_t mutex;
    struct chardev_receiver receiver;
    pthread_mutex_t *machine_lock;
    bool connected;

    /* output: a callback, or a queue to a descriptor, or neither */
    void (*output)(void *ctx, const uint8_t *data, size_t size);
    void *output_ctx;
    struct output_queue queue;
    bool has_queue;
    int file_fd; /* ours to close; -1: none */
    enum chardev_kind kind;
    char *path;     /* of CHARDEV_FILE */
    uint8_t *early; /* written before chardev_start */
    size_t early_count;

    /* input */
    struct input_pump pump;
    bool has_pump, raw;
    atomic_bool starved; /* input waits for the receiver; changes under the machine lock */
    void (*quit)(void *ctx);
    void *quit_ctx;
};

static struct chardev *chardev_new(struct vd_error *err)
{
    struct chardev *chardev = calloc(1, sizeof(*chardev));
    if (!chardev) {
        error_set(err, "out of memory");
        return NULL;
    }
    pthread_mutex_init(&chardev->mutex, NULL);
    chardev->file_fd = -1;
    return chardev;
}

size_t chardev_inject(struct chardev *chardev, const uint8_t *data, size_t size)
{
    size_t taken = 0;
    pthread_mutex_lock(&chardev->mutex);
    bool connected = chardev->connected;
    struct chardev_receiver receiver = chardev->receiver;
    pthread_mutex_t *lock = chardev->machine_lock;
    pthread_mutex_unlock(&chardev->mutex);
    if (!connected)
        return 0;

    if (lock)
        pthread_mutex_lock(lock);
    while (taken < size) {
        size_t room = receiver.can_receive(receiver.ctx);
        if (!room)
            break;
        if (room > size - taken)
            room = size - taken;
        receiver.receive(receiver.ctx, data + taken, room);
        taken += room;
    }
    atomic_store(&chardev->starved, taken < size);
    if (lock)
        pthread_mutex_unlock(lock);
    return taken;
}

static size_t pump_deliver(void *ctx, const uint8_t *data, size_t size)
{
    return chardev_inject(ctx, data, size);
}

static void pump_command(void *ctx, char key)
{
    static const char help[] = "\r\nCtrl-A h       this help\r\n"
                               "Ctrl-A x       quit the virtual machine\r\n"
                               "Ctrl-A Ctrl-A  send Ctrl-A\r\n";
    struct chardev *chardev = ctx;
    if (key == 'x' || key == 'X') {
        chardev_set_patient(chardev, false);
        if (chardev->quit)
            chardev->quit(chardev->quit_ctx);
    } else if (key == 'h' || key == 'H' || key == '?') {
        chardev_write(chardev, (const uint8_t *)help, sizeof(help) - 1);
    }
}

static int open_stdio(struct chardev *chardev, struct vd_error *err)
{
    const struct input_pump_handler handler = {
        .ctx = chardev, .deliver = pump_deliver, .command = pump_command};
    bool terminal = isatty(STDIN_FILENO);
    if (terminal) {
        if (terminal_raw_enter(STDIN_FILENO) < 0)
            return error_set(err, "stdio: the terminal is already used by another device");
        chardev->raw = true;
    }
    if (output_queue_start(&chardev->queue, STDOUT_FILENO, "standard output", err) < 0)
        return -1;
    chardev->has_queue = true;
    if (input_pump_start(&chardev->pump, STDIN_FILENO, terminal, &handler, err) < 0)
        return -1;
    chardev->has_pump = true;
    return 0;
}

static int open_file(struct chardev *chardev, struct vd_error *err)
{
    const char *path = chardev->path;
    chardev->file_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
    if (chardev->file_fd < 0)
        return error_set(err, "cannot open '%s' for writing: %s", path, strerror(errno));
    if (output_queue_start(&chardev->queue, chardev->file_fd, path, err) < 0)
        return -1;
    chardev->has_queue = true;
    return 0;
}

/* What can be known about a file without touching it. */
static int check_file(const char *path, struct vd_error *err)
{
    struct stat st;
    int status = 0;
    if (!*path)
        return error_set(err, "character device 'file:' lacks a path (file:PATH)");
    if (stat(path, &st) == 0) {
        errno = EISDIR;
        status = S_ISDIR(st.st_mode) ? -1 : access(path, W_OK);
    } else {
        char *folder = strdup(path);
        char *slash = folder ? strrchr(folder, '/') : NULL;
        if (slash)
            slash[1] = 0;
        status = access(slash ? folder : ".", W_OK | X_OK);
        free(folder);
    }
    return status ? error_set(err, "cannot open '%s' for writing: %s", path, strerror(errno)) : 0;
}

static int parse_spec(struct chardev *chardev, const char *spec, struct vd_error *err)
{
    if (!strcmp(spec, "stdio")) {
        chardev->kind = CHARDEV_STDIO;
    } else if (!strncmp(spec, "file:", 5)) {
        chardev->kind = CHARDEV_FILE;
        if (check_file(spec + 5, err) < 0)
            return -1;
        chardev->path = strdup(spec + 5);
        if (!chardev->path)
            return error_set(err, "out of memory");
    } else if (strcmp(spec, "none") != 0) {
        return error_set(err, "unknown character device '%s' (known: stdio, file:PATH, none)",
                         spec);
    }
    return 0;
}

int chardev_prepare(struct chardev **result, const char *spec, void (*quit)(void *ctx),
                    void *quit_ctx, struct vd_error *err)
{
    struct chardev *chardev = chardev_new(err);
    if (!chardev)
        return -1;
    chardev->quit = quit;
    chardev->quit_ctx = quit_ctx;
    if (parse_spec(chardev, spec, err) < 0) {
        chardev_close(chardev);
        return -1;
    }
    *result = chardev;
    return 0;
}

int chardev_start(struct chardev *chardev, struct vd_error *err)
{
    int status = 0;
    if (chardev->kind == CHARDEV_STDIO)
        status = open_stdio(chardev, err);
    else if (chardev->kind == CHARDEV_FILE)
        status = open_file(chardev, err);
    if (status == 0 && chardev->early_count)
        chardev_write(chardev, chardev->early, chardev->early_count);
    free(chardev->early);
    chardev->early = NULL;
    chardev->early_count = 0;
    return status;
}

int chardev_open(struct chardev **result, const char *spec, void (*quit)(void *ctx), void *quit_ctx,
                 struct vd_error *err)
{
    struct chardev *chardev;
    if (chardev_prepare(&chardev, spec, quit, quit_ctx, err) < 0)
        return -1;
    if (chardev_start(chardev, err) < 0) {
        chardev_close(chardev);
        return -1;
    }
    *result = chardev;
    return 0;
}

int chardev_open_callback(struct chardev **result,
                          void (*output)(void *ctx, const uint8_t *data, size_t size), void *ctx,
                          struct vd_error *err)
{
    struct chardev *chardev = chardev_new(err);
    if (!chardev)
        return -1;
    chardev->kind = CHARDEV_CALLBACK;
    chardev->output = output;
    chardev->output_ctx = ctx;
    *result = chardev;
    return 0;
}

void chardev_connect(struct chardev *chardev, const struct chardev_receiver *receiver,
                     pthread_mutex_t *lock)
{
    pthread_mutex_lock(&chardev->mutex);
    chardev->receiver = *receiver;
    chardev->machine_lock = lock;
    chardev->connected = true;
    pthread_mutex_unlock(&chardev->mutex);
    if (chardev->has_pump)
        input_pump_wake(&chardev->pump);
}

static void write_early(struct chardev *chardev, const uint8_t *data, size_t size)
{
    if (!chardev->early)
        chardev->early = malloc(EARLY_SIZE);
    if (!chardev->early)
        return;
    if (size > EARLY_SIZE - chardev->early_count)
        size = EARLY_SIZE - chardev->early_count;
    memcpy(chardev->early + chardev->early_count, data, size);
    chardev->early_count += size;
}

void chardev_write(struct chardev *chardev, const uint8_t *data, size_t size)
{
    if (chardev->output)
        chardev->output(chardev->output_ctx, data, size);
    else if (chardev->has_queue)
        output_queue_write(&chardev->queue, data, size);
    else if (chardev->kind != CHARDEV_NONE)
        write_early(chardev, data, size);
}

void chardev_set_patient(struct chardev *chardev, bool patient)
{
    if (chardev->has_queue)
        output_queue_set_patient(&chardev->queue, patient);
}

void chardev_accept_input(struct chardev *chardev)
{
    if (chardev->has_pump && atomic_load(&chardev->starved))
        input_pump_wake(&chardev->pump);
}

void chardev_close(struct chardev *chardev)
{
    if (!chardev)
        return;
    if (chardev->has_pump)
        input_pump_stop(&chardev->pump);
    if (chardev->has_queue)
        output_queue_stop(&chardev->queue);
    if (chardev->raw)
        terminal_raw_leave();
    if (chardev->file_fd >= 0)
        close(chardev->file_fd);
    pthread_mutex_destroy(&chardev->mutex);
    free(chardev->early);
    free(chardev->path);
    free(chardev);
}
