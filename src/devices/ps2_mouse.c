#include "devices/ps2_mouse.h"

#include <string.h>

enum {
    CMD_SCALING_11 = 0xe6,
    CMD_SCALING_21 = 0xe7,
    CMD_RESOLUTION = 0xe8,
    CMD_STATUS = 0xe9,
    CMD_STREAM = 0xea,
    CMD_READ_DATA = 0xeb,
    CMD_RESET_WRAP = 0xec,
    CMD_WRAP = 0xee,
    CMD_REMOTE = 0xf0,
    CMD_ID = 0xf2,
    CMD_RATE = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULTS = 0xf6,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,
    REPLY_ACK = 0xfa,
    REPLY_ERROR = 0xfc,
    REPLY_RESEND = 0xfe,
    REPLY_SELF_TEST_PASSED = 0xaa,
    DEFAULT_RATE = 100,
    DEFAULT_RESOLUTION = 2,
    MAX_PENDING = 100000, /* counts */
};

static void notify(struct ps2_mouse *mouse)
{
    if (ps2_mouse_has_data(mouse))
        mouse->config.ready(mouse->config.ctx);
}

static int clamp(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

/* Scaling 2:1 (technical reference, table of stream mode counts). */
static int scale(const struct ps2_mouse *mouse, int count)
{
    static const int small[6] = {0, 1, 1, 3, 6, 9};
    if (!mouse->scaling21 || mouse->remote)
        return count;
    int size = count < 0 ? -count : count;
    size = size < 6 ? small[size] : 2 * size;
    return count < 0 ? -size : size;
}

static bool something_new(const struct ps2_mouse *mouse)
{
    uint8_t seen = mouse->id == 4 ? 0x1f : 0x07;
    return mouse->dx || mouse->dy || (mouse->dz && mouse->id) ||
           ((mouse->buttons ^ mouse->sent_buttons) & seen);
}

/* Moves as much of the pending movement as one packet can say into the queue. */
static void put_packet(struct ps2_mouse *mouse, struct ps2_queue *queue)
{
    int limit = mouse->scaling21 && !mouse->remote ? 127 : 255;
    int dx = clamp(mouse->dx, -limit, limit), dy = clamp(mouse->dy, -limit, limit);
    mouse->dx -= dx;
    mouse->dy -= dy;
    dx = scale(mouse, dx);
    dy = -scale(mouse, dy); /* the mouse counts upwards */
    ps2_queue_put(
        queue, (uint8_t)(0x08 | (mouse->buttons & 7) | (dx < 0 ? 0x10 : 0) | (dy < 0 ? 0x20 : 0)));
    ps2_queue_put(queue, (uint8_t)dx);
    ps2_queue_put(queue, (uint8_t)dy);
    int limit_z = mouse->id == 4 ? 7 : 127;
    int dz = clamp(mouse->dz, -limit_z, limit_z);
    mouse->dz = mouse->id ? mouse->dz - dz : 0;
    if (mouse->id == 3)
        ps2_queue_put(queue, (uint8_t)dz);
    else if (mouse->id == 4)
        ps2_queue_put(queue, (uint8_t)((dz & 0x0f) | (mouse->buttons >> 3 & 3) << 4));
    mouse->sent_buttons = mouse->buttons;
}

static bool streaming(const struct ps2_mouse *mouse)
{
    return mouse->reporting && !mouse->remote && !mouse->wrap;
}

static void stream(struct ps2_mouse *mouse)
{
    if (!streaming(mouse) || !something_new(mouse) || timer_armed(&mouse->sample) ||
        ps2_queue_room(&mouse->packets) < 4)
        return;
    put_packet(mouse, &mouse->packets);
    timer_set(&mouse->sample, vclock_now(mouse->config.clock) + 1000000000u / mouse->rate);
    notify(mouse);
}

static void sample_expired(void *ctx, uint64_t now_ns)
{
    (void)now_ns;
    stream(ctx);
}

void ps2_mouse_move(struct ps2_mouse *mouse, int dx, int dy, int dz, unsigned buttons)
{
    if (streaming(mouse) && ((buttons ^ mouse->buttons) & 0x1f) && something_new(mouse) &&
        ps2_queue_room(&mouse->packets) >= 4) {
        /* A click shorter than the sample period must not get lost: report what was before. */
        put_packet(mouse, &mouse->packets);
        notify(mouse);
    }
    mouse->dx = clamp(mouse->dx + clamp(dx, -MAX_PENDING, MAX_PENDING), -MAX_PENDING, MAX_PENDING);
    mouse->dy = clamp(mouse->dy + clamp(dy, -MAX_PENDING, MAX_PENDING), -MAX_PENDING, MAX_PENDING);
    mouse->dz = clamp(mouse->dz + clamp(dz, -MAX_PENDING, MAX_PENDING), -MAX_PENDING, MAX_PENDING);
    mouse->buttons = buttons & 0x1f;
    if (!mouse->reporting && !mouse->remote) {
        mouse->dx = mouse->dy = mouse->dz = 0; /* nobody counts */
        mouse->sent_buttons = mouse->buttons;
    }
    stream(mouse);
}

static void clear_movement(struct ps2_mouse *mouse)
{
    mouse->dx = mouse->dy = mouse->dz = 0;
    mouse->sent_buttons = mouse->buttons;
    ps2_queue_clear(&mouse->packets);
}

static void set_defaults(struct ps2_mouse *mouse)
{
    clear_movement(mouse);
    mouse->remote = mouse->wrap = mouse->reporting = mouse->scaling21 = 0;
    mouse->resolution = DEFAULT_RESOLUTION;
    mouse->rate = DEFAULT_RATE;
}

static void reply(struct ps2_mouse *mouse, uint8_t byte)
{
    ps2_queue_put(&mouse->replies, byte);
}

/* The sample rates 200, 100, 80 and 200, 200, 80 in a row switch the extensions on. */
static void set_rate(struct ps2_mouse *mouse, uint8_t rate)
{
    if (mouse->knock[0] == 200 && mouse->knock[1] == 100 && rate == 80 && mouse->id == 0)
        mouse->id = 3;
    else if (mouse->knock[0] == 200 && mouse->knock[1] == 200 && rate == 80 && mouse->id)
        mouse->id = 4;
    mouse->knock[0] = mouse->knock[1];
    mouse->knock[1] = rate;
    mouse->rate = rate;
}

static bool valid_rate(uint8_t rate)
{
    static const uint8_t rates[] = {10, 20, 40, 60, 80, 100, 200};
    return memchr(rates, rate, sizeof(rates)) != NULL;
}

/* An invalid byte is to be sent again; a second one in a row is an error. */
static void refuse(struct ps2_mouse *mouse, bool again)
{
    reply(mouse, again ? REPLY_ERROR : REPLY_RESEND);
    mouse->errors = !again;
}

static void parameter(struct ps2_mouse *mouse, uint8_t byte)
{
    bool valid = mouse->command == CMD_RESOLUTION ? byte <= 3 : valid_rate(byte);
    if (!valid) {
        bool again = mouse->errors;
        refuse(mouse, again);
        if (again) /* the second error ends the command */
            mouse->command = 0;
        return;
    }
    if (mouse->command == CMD_RESOLUTION)
        mouse->resolution = byte;
    else
        set_rate(mouse, byte);
    mouse->errors = 0;
    mouse->command = 0;
    clear_movement(mouse);
    reply(mouse, REPLY_ACK);
}

static void report_status(struct ps2_mouse *mouse)
{
    uint8_t buttons = (mouse->buttons & PS2_BUTTON_LEFT ? 4 : 0) |
                      (mouse->buttons & PS2_BUTTON_MIDDLE ? 2 : 0) |
                      (mouse->buttons & PS2_BUTTON_RIGHT ? 1 : 0);
    reply(mouse,
          (uint8_t)(buttons | mouse->scaling21 << 4 | mouse->reporting << 5 | mouse->remote << 6));
    reply(mouse, mouse->resolution);
    reply(mouse, mouse->rate);
}

static void simple_command(struct ps2_mouse *mouse, uint8_t byte)
{
    bool had_error = mouse->errors;
    mouse->errors = 0;
    switch (byte) {
    case CMD_SCALING_11:
    case CMD_SCALING_21:
        mouse->scaling21 = byte == CMD_SCALING_21;
        break;
    case CMD_RESOLUTION:
    case CMD_RATE:
        mouse->command = byte;
        break;
    case CMD_STATUS:
        reply(mouse, REPLY_ACK);
        report_status(mouse);
        return;
    case CMD_STREAM:
    case CMD_REMOTE:
        mouse->remote = byte == CMD_REMOTE;
        clear_movement(mouse);
        break;
    case CMD_READ_DATA:
        reply(mouse, REPLY_ACK);
        put_packet(mouse, &mouse->replies);
        return;
    case CMD_RESET_WRAP: /* not in wrap mode: nothing to end */
        break;
    case CMD_WRAP:
        mouse->wrap = 1;
        clear_movement(mouse);
        break;
    case CMD_ID:
        reply(mouse, REPLY_ACK);
        reply(mouse, mouse->id);
        return;
    case CMD_ENABLE:
    case CMD_DISABLE:
        mouse->reporting = byte == CMD_ENABLE;
        clear_movement(mouse);
        break;
    case CMD_DEFAULTS:
        set_defaults(mouse);
        break;
    default:
        refuse(mouse, had_error);
        return;
    }
    reply(mouse, REPLY_ACK);
}

static void reset(struct ps2_mouse *mouse)
{
    set_defaults(mouse);
    mouse->id = 0;
    mouse->knock[0] = mouse->knock[1] = 0;
    mouse->command = 0;
    mouse->errors = 0;
}

void ps2_mouse_write(struct ps2_mouse *mouse, uint8_t byte)
{
    /* A byte from the host ends whatever is being sent. */
    if (byte != CMD_RESEND) {
        ps2_queue_clear(&mouse->replies);
        ps2_queue_clear(&mouse->packets);
    }
    if (byte == CMD_RESET) {
        reset(mouse);
        reply(mouse, REPLY_ACK);
        reply(mouse, REPLY_SELF_TEST_PASSED);
        reply(mouse, mouse->id);
    } else if (mouse->wrap && byte == CMD_RESET_WRAP) {
        mouse->wrap = 0;
        reply(mouse, REPLY_ACK);
    } else if (mouse->wrap) {
        reply(mouse, byte);
    } else if (byte == CMD_RESEND) {
        reply(mouse, mouse->last_sent);
    } else if (mouse->command) {
        parameter(mouse, byte);
    } else {
        simple_command(mouse, byte);
    }
    notify(mouse);
}

bool ps2_mouse_has_data(const struct ps2_mouse *mouse)
{
    return mouse->replies.count || (mouse->packets.count && !mouse->command);
}

bool ps2_mouse_take(struct ps2_mouse *mouse, uint8_t *byte)
{
    if (!ps2_queue_take(&mouse->replies, byte) &&
        (mouse->command || !ps2_queue_take(&mouse->packets, byte)))
        return false;
    if (*byte != REPLY_RESEND)
        mouse->last_sent = *byte;
    stream(mouse); /* there may be room for a packet that had to wait */
    return true;
}

void ps2_mouse_init(struct ps2_mouse *mouse, const struct ps2_mouse_config *config)
{
    memset(mouse, 0, sizeof(*mouse));
    mouse->config = *config;
    timer_init(&mouse->sample, config->timers, sample_expired, mouse);
    ps2_mouse_reset(mouse);
}

void ps2_mouse_reset(struct ps2_mouse *mouse)
{
    ps2_queue_clear(&mouse->replies);
    timer_cancel(&mouse->sample);
    mouse->last_sent = REPLY_SELF_TEST_PASSED;
    reset(mouse);
}
