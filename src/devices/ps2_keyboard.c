#include "devices/ps2_keyboard.h"

#include <string.h>

enum {
    CMD_LEDS = 0xed,
    CMD_ECHO = 0xee,
    CMD_SET = 0xf0,
    CMD_ID = 0xf2,
    CMD_TYPEMATIC = 0xf3,
    CMD_ENABLE = 0xf4,
    CMD_DISABLE = 0xf5,
    CMD_DEFAULTS = 0xf6,
    CMD_ALL_TYPEMATIC = 0xf7,
    CMD_ALL_MAKE_BREAK = 0xf8,
    CMD_ALL_MAKE = 0xf9,
    CMD_ALL_BOTH = 0xfa,
    CMD_KEY_TYPEMATIC = 0xfb,
    CMD_KEY_MAKE_BREAK = 0xfc,
    CMD_KEY_MAKE = 0xfd,
    CMD_RESEND = 0xfe,
    CMD_RESET = 0xff,
    REPLY_ACK = 0xfa,
    REPLY_RESEND = 0xfe,
    REPLY_SELF_TEST_PASSED = 0xaa,
    TYPEMATIC_DEFAULT = 0x2b, /* 500 ms, 10.9 characters per second */
    LED_NUM = 1 << 1,
    TYPE_REPEATS = 1 << 0,
    TYPE_BREAKS = 1 << 1,
    LONGEST_SEQUENCE = 8,
};
enum { /* key codes */
       KEY_CTRL = 0x1d,
       KEY_LEFT_SHIFT = 0x2a,
       KEY_SLASH = 0x35,
       KEY_RIGHT_SHIFT = 0x36,
       KEY_ALT = 0x38,
       KEY_SYSRQ = 0x54,
};

/* Set 2 by set 1 code; the same with the prefix E0h on both sides. */
static const uint8_t set2[128] = {
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03,
    0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x84, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f,
    0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f,
    0x13, 0x19, 0x39, 0x51, 0x53, 0x5c, 0x5f, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e,
};

/* Set 3 by set 1 code, 0: the key does not exist there. */
static const uint8_t set3[128] = {
    0x00, 0x08, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66,
    0x0d, 0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x11,
    0x1c, 0x1b, 0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5c, 0x1a,
    0x22, 0x21, 0x2a, 0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7e, 0x19, 0x29, 0x14, 0x07,
    0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f, 0x47, 0x4f, 0x76, 0x5f, 0x6c, 0x75, 0x7d, 0x84,
    0x6b, 0x73, 0x74, 0x7c, 0x69, 0x72, 0x7a, 0x70, 0x71, 0x57, 0x00, 0x13, 0x56, 0x5e};

/* The extended keys of set 3, by set 1 code. */
static const uint8_t set3_extended[128] = {
    [0x1c] = 0x79, [0x1d] = 0x58, [0x35] = 0x77, [0x37] = 0x57, [0x38] = 0x39,
    [0x46] = 0x62, [0x47] = 0x6e, [0x48] = 0x63, [0x49] = 0x6f, [0x4b] = 0x61,
    [0x4d] = 0x6a, [0x4f] = 0x65, [0x50] = 0x60, [0x51] = 0x6d, [0x52] = 0x67,
    [0x53] = 0x64, [0x5b] = 0x8b, [0x5c] = 0x8c, [0x5d] = 0x8d};

/* Set 3 keys that by default do not repeat: those with a break code, and those without. */
static const uint8_t make_break_keys[] = {0x11, 0x12, 0x14, 0x19, 0x59};
static const uint8_t make_keys[] = {0x07, 0x08, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x39, 0x3f,
                                    0x47, 0x4f, 0x56, 0x57, 0x58, 0x5e, 0x5f, 0x62, 0x65, 0x67,
                                    0x69, 0x6b, 0x6c, 0x6d, 0x6e, 0x6f, 0x70, 0x71, 0x72, 0x73,
                                    0x74, 0x75, 0x76, 0x77, 0x79, 0x7a, 0x7d, 0x7e, 0x84};

struct sequence { /* the scan codes of one event */
    uint8_t bytes[LONGEST_SEQUENCE];
    unsigned size;
};

static void notify(struct ps2_keyboard *kb)
{
    if (ps2_keyboard_has_data(kb))
        kb->config.ready(kb->config.ctx);
}

static bool held(const struct ps2_keyboard *kb, unsigned code)
{
    return kb->down[code / 8] & 1u << code % 8;
}

static bool shifted(const struct ps2_keyboard *kb)
{
    return held(kb, KEY_LEFT_SHIFT) || held(kb, KEY_RIGHT_SHIFT);
}

static void append(struct sequence *seq, uint8_t byte)
{
    if (seq->size < LONGEST_SEQUENCE)
        seq->bytes[seq->size++] = byte;
}

static void append_key(const struct ps2_keyboard *kb, struct sequence *seq, unsigned code,
                       bool down)
{
    unsigned base = code & 0x7f;
    if (kb->set != 1 && !set2[base])
        return;
    if (code & PS2_KEY_EXTENDED)
        append(seq, 0xe0);
    if (kb->set == 1) {
        append(seq, (uint8_t)(base | (down ? 0 : 0x80)));
        return;
    }
    if (!down)
        append(seq, 0xf0);
    append(seq, set2[base]);
}

/* Home, the arrows, ...: on the old keyboard these were on the numeric pad. */
static bool navigation_key(unsigned code)
{
    return code >= 0x147 && code <= 0x153 && code != 0x14a && code != 0x14c && code != 0x14e;
}

/*
 * The additional keys of the 101-key layout pretend that Shift is pressed or released, so that they
 * mean the same as the numeric pad's keys on software that ignores E0h.
 */
static void append_shifts(const struct ps2_keyboard *kb, struct sequence *seq, unsigned code,
                          bool down)
{
    bool num_lock = kb->leds & LED_NUM;
    if (navigation_key(code) && num_lock && !shifted(kb)) {
        append_key(kb, seq, PS2_KEY_EXTENDED | KEY_LEFT_SHIFT, down);
        return;
    }
    if (code != (PS2_KEY_EXTENDED | KEY_SLASH) && !(navigation_key(code) && !num_lock))
        return;
    if (held(kb, KEY_LEFT_SHIFT))
        append_key(kb, seq, PS2_KEY_EXTENDED | KEY_LEFT_SHIFT, !down);
    if (held(kb, KEY_RIGHT_SHIFT))
        append_key(kb, seq, PS2_KEY_EXTENDED | KEY_RIGHT_SHIFT, !down);
}

static void append_pause(const struct ps2_keyboard *kb, struct sequence *seq)
{
    static const uint8_t in_set1[] = {0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5};
    static const uint8_t in_set2[] = {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77};
    if (held(kb, KEY_CTRL) || held(kb, PS2_KEY_EXTENDED | KEY_CTRL)) { /* Break */
        append_key(kb, seq, PS2_KEY_PAUSE, true);
        append_key(kb, seq, PS2_KEY_PAUSE, false);
        return;
    }
    const uint8_t *bytes = kb->set == 1 ? in_set1 : in_set2;
    size_t size = kb->set == 1 ? sizeof(in_set1) : sizeof(in_set2);
    for (size_t i = 0; i < size; i++)
        append(seq, bytes[i]);
}

static void append_print_screen(const struct ps2_keyboard *kb, struct sequence *seq, bool down)
{
    const unsigned shift = PS2_KEY_EXTENDED | KEY_LEFT_SHIFT;
    if (held(kb, KEY_ALT) || held(kb, PS2_KEY_EXTENDED | KEY_ALT)) {
        append_key(kb, seq, KEY_SYSRQ, down);
        return;
    }
    bool plain = !shifted(kb) && !held(kb, KEY_CTRL) && !held(kb, PS2_KEY_EXTENDED | KEY_CTRL);
    if (plain && down)
        append_key(kb, seq, shift, true);
    append_key(kb, seq, PS2_KEY_PRINT_SCREEN, down);
    if (plain && !down)
        append_key(kb, seq, shift, false);
}

static uint8_t set3_code(unsigned code)
{
    return code & PS2_KEY_EXTENDED ? set3_extended[code & 0x7f] : set3[code & 0x7f];
}

static void build(const struct ps2_keyboard *kb, struct sequence *seq, unsigned code, bool down,
                  bool repeat)
{
    if (kb->set == 3) {
        uint8_t scan = set3_code(code);
        if (!scan || (!down && !(kb->key_type[scan] & TYPE_BREAKS)))
            return;
        if (!down)
            append(seq, 0xf0);
        append(seq, scan);
    } else if (code == PS2_KEY_PAUSE) {
        if (down)
            append_pause(kb, seq);
    } else if (code == PS2_KEY_PRINT_SCREEN && !repeat) {
        append_print_screen(kb, seq, down);
    } else {
        if (down && !repeat)
            append_shifts(kb, seq, code, true);
        append_key(kb, seq, code, down);
        if (!down)
            append_shifts(kb, seq, code, false);
    }
}

static bool send_key(struct ps2_keyboard *kb, unsigned code, bool down, bool repeat)
{
    struct sequence seq = {.size = 0};
    build(kb, &seq, code, down, repeat);
    /* One place stays free for the overrun code. */
    if (seq.size && seq.size >= ps2_queue_room(&kb->keys)) {
        if (!kb->overrun && !repeat) {
            kb->overrun = 1;
            ps2_queue_put(&kb->keys, kb->set == 1 ? 0xff : 0x00);
        }
        return false;
    }
    for (unsigned i = 0; i < seq.size; i++)
        ps2_queue_put(&kb->keys, seq.bytes[i]);
    notify(kb);
    return true;
}

static bool repeats(const struct ps2_keyboard *kb, unsigned code)
{
    if (kb->set == 3)
        return kb->key_type[set3_code(code)] & TYPE_REPEATS;
    return code != PS2_KEY_PAUSE;
}

static void stop_repeat(struct ps2_keyboard *kb)
{
    kb->repeating = 0;
    timer_cancel(&kb->repeat);
}

static uint64_t repeat_delay_ns(const struct ps2_keyboard *kb)
{
    return ((kb->typematic >> 5 & 3u) + 1) * 250000000ull;
}

/* Technical reference: period = (8 + A) * 2^B * 4.17 ms. */
static uint64_t repeat_period_ns(const struct ps2_keyboard *kb)
{
    return ((8ull + (kb->typematic & 7)) << (kb->typematic >> 3 & 3)) * 4170000;
}

static void repeat_expired(void *ctx, uint64_t now_ns)
{
    struct ps2_keyboard *kb = ctx;
    if (!kb->repeating || !kb->scanning)
        return;
    send_key(kb, kb->repeating, true, true);
    timer_set(&kb->repeat, now_ns + repeat_period_ns(kb));
}

bool ps2_keyboard_key(struct ps2_keyboard *kb, unsigned code, bool down)
{
    if (code >= 2 * PS2_KEY_EXTENDED || (code & 0x80) || !(code & 0x7f) || held(kb, code) == down)
        return true;
    kb->down[code / 8] ^= (uint8_t)(1u << code % 8);
    if (!down && kb->repeating == code)
        stop_repeat(kb);
    if (!kb->scanning)
        return true;
    if (down) {
        stop_repeat(kb);
        if (repeats(kb, code)) {
            kb->repeating = (uint16_t)code;
            timer_set(&kb->repeat, vclock_now(kb->config.clock) + repeat_delay_ns(kb));
        }
    }
    return send_key(kb, code, down, false);
}

static void set_all_types(struct ps2_keyboard *kb, uint8_t type)
{
    memset(kb->key_type, type, sizeof(kb->key_type));
}

static void clear_output(struct ps2_keyboard *kb)
{
    ps2_queue_clear(&kb->keys);
    kb->overrun = 0;
    stop_repeat(kb);
}

static void set_defaults(struct ps2_keyboard *kb)
{
    clear_output(kb);
    kb->typematic = TYPEMATIC_DEFAULT;
    kb->set = 2;
    set_all_types(kb, TYPE_REPEATS);
    for (unsigned i = 0; i < sizeof(make_break_keys); i++)
        kb->key_type[make_break_keys[i]] = TYPE_BREAKS;
    for (unsigned i = 0; i < sizeof(make_keys); i++)
        kb->key_type[make_keys[i]] = 0;
}

static void reply(struct ps2_keyboard *kb, uint8_t byte)
{
    ps2_queue_put(&kb->replies, byte);
}

/* The second byte of a command. Returns false if it is not one but a new command. */
static bool parameter(struct ps2_keyboard *kb, uint8_t byte)
{
    uint8_t command = kb->command;
    bool is_command = byte >= CMD_LEDS;
    kb->command = 0;
    if (is_command)
        return false;
    reply(kb, command == CMD_SET && byte > 3 ? REPLY_RESEND : REPLY_ACK);
    switch (command) {
    case CMD_LEDS:
        kb->leds = byte & 7;
        break;
    case CMD_SET:
        if (byte == 0) {
            reply(kb, kb->set);
        } else if (byte <= 3) {
            clear_output(kb);
            kb->set = byte;
        }
        break;
    case CMD_TYPEMATIC:
        kb->typematic = byte & 0x7f;
        break;
    case CMD_KEY_TYPEMATIC:
    case CMD_KEY_MAKE_BREAK:
    case CMD_KEY_MAKE:
        kb->key_type[byte] = command == CMD_KEY_TYPEMATIC    ? TYPE_REPEATS
                             : command == CMD_KEY_MAKE_BREAK ? TYPE_BREAKS
                                                             : 0;
        kb->command = command; /* more keys may follow */
        break;
    default:
        break;
    }
    return true;
}

static void simple_command(struct ps2_keyboard *kb, uint8_t byte)
{
    reply(kb, REPLY_ACK);
    switch (byte) {
    case CMD_ID:
        reply(kb, 0xab);
        reply(kb, 0x83);
        break;
    case CMD_ENABLE:
        clear_output(kb);
        kb->scanning = 1;
        break;
    case CMD_DISABLE:
        set_defaults(kb);
        kb->scanning = 0;
        break;
    case CMD_DEFAULTS:
        set_defaults(kb);
        break;
    case CMD_ALL_TYPEMATIC:
        set_all_types(kb, TYPE_REPEATS);
        break;
    case CMD_ALL_MAKE_BREAK:
        set_all_types(kb, TYPE_BREAKS);
        break;
    case CMD_ALL_MAKE:
        set_all_types(kb, 0);
        break;
    case CMD_ALL_BOTH:
        set_all_types(kb, TYPE_REPEATS | TYPE_BREAKS);
        break;
    default: /* the others have a parameter */
        kb->command = byte;
        break;
    }
}

void ps2_keyboard_write(struct ps2_keyboard *kb, uint8_t byte)
{
    if (kb->command && parameter(kb, byte)) {
        notify(kb);
        return;
    }
    switch (byte) {
    case CMD_ECHO:
        reply(kb, CMD_ECHO);
        break;
    case CMD_RESEND:
        reply(kb, kb->last_sent);
        break;
    case CMD_RESET:
        ps2_queue_clear(&kb->replies);
        reply(kb, REPLY_ACK);
        set_defaults(kb);
        kb->leds = 0;
        kb->scanning = 1;
        reply(kb, REPLY_SELF_TEST_PASSED);
        break;
    default:
        if (byte < CMD_LEDS || byte == 0xef || byte == 0xf1)
            reply(kb, REPLY_RESEND); /* no such command */
        else
            simple_command(kb, byte);
        break;
    }
    notify(kb);
}

bool ps2_keyboard_has_data(const struct ps2_keyboard *kb)
{
    return kb->replies.count || (kb->keys.count && !kb->command);
}

bool ps2_keyboard_take(struct ps2_keyboard *kb, uint8_t *byte)
{
    /* While it waits for a parameter the keyboard does not send keys. */
    if (!ps2_queue_take(&kb->replies, byte)) {
        if (kb->command || !ps2_queue_take(&kb->keys, byte))
            return false;
        if (!kb->keys.count)
            kb->overrun = 0;
    }
    if (*byte != REPLY_RESEND)
        kb->last_sent = *byte;
    return true;
}

void ps2_keyboard_init(struct ps2_keyboard *kb, const struct ps2_keyboard_config *config)
{
    memset(kb, 0, sizeof(*kb));
    kb->config = *config;
    timer_init(&kb->repeat, config->timers, repeat_expired, kb);
    ps2_keyboard_reset(kb);
}

void ps2_keyboard_reset(struct ps2_keyboard *kb)
{
    ps2_queue_clear(&kb->replies);
    set_defaults(kb);
    kb->command = 0;
    kb->leds = 0;
    kb->scanning = 1;
    kb->last_sent = REPLY_SELF_TEST_PASSED;
}
