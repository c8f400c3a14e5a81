#include "prescan/scan.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>

#include "prescan/scan_image.h"
#include "prescan/scan_walk.h"

static const char *const op_texts[OP_COUNT] = {
#define OP_TEXT(name, text) text,
    INSN_OPS(OP_TEXT)
#undef OP_TEXT
};

static const struct {
    const char *key;  /* JSON */
    const char *text; /* report */
} end_texts[] = {
    [END_BRANCH] = {"branch", "conditional branches"},
    [END_JUMP] = {"jump", "direct jumps"},
    [END_CALL] = {"call", "calls"},
    [END_INDIRECT] = {"indirect", "indirect jumps (target not known ahead)"},
    [END_RETURN] = {"return", "returns"},
    [END_CALLOUT] = {"callout", "callouts that may change pc or mode"},
    [END_LIMIT] = {"limit", "starts of another block, size limit"},
    [END_UNREADABLE] = {"unreadable", "end of the code"},
    [END_INVALID] = {"undefined", "undefined instructions"},
};

/* Bytes of a segment that no path reaches, as ranges. */
struct gaps {
    uint64_t bytes, count;
    uint64_t largest, largest_at;
};

static void find_gaps(const struct scan_segment *segment, struct gaps *gaps)
{
    uint64_t start = 0;

    memset(gaps, 0, sizeof(*gaps));
    for (uint64_t i = 0; i <= segment->size; i++) {
        if (i < segment->size && !(segment->marks[i] & MARK_BYTE))
            continue;
        if (i > start) {
            gaps->count++;
            gaps->bytes += i - start;
            if (i - start > gaps->largest) {
                gaps->largest = i - start;
                gaps->largest_at = segment->address + start;
            }
        }
        start = i + 1;
    }
}

static const char *disassemble(const struct scan_image *image, const struct scan_sensitive *item,
                               char *text, size_t size)
{
    const struct scan_segment *segment = &image->segments[item->segment];
    uint64_t offset = item->address - segment->address;
    uint64_t left = segment->size - offset;

    return insn_format(text, size, segment->bytes + offset, left < 15 ? (size_t)left : 15,
                       item->address, segment->bits);
}

static double percent(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* --- text --- */

static void print_segments(const struct scan_image *image, FILE *out)
{
    fprintf(out, "\ncode\n");
    for (size_t i = 0; i < image->segment_count; i++) {
        const struct scan_segment *segment = &image->segments[i];
        struct gaps gaps;
        find_gaps(segment, &gaps);
        fprintf(out, "  0x%" PRIx64 "  %-32s %u-bit %10" PRIu64 " bytes, %5.1f %% reached",
                segment->address, segment->name, segment->bits, segment->size,
                percent(segment->size - gaps.bytes, segment->size));
        if (gaps.count)
            fprintf(out,
                    "; %" PRIu64 " bytes not reached in %" PRIu64 " range%s, the largest %" PRIu64
                    " at 0x%" PRIx64,
                    gaps.bytes, gaps.count, gaps.count == 1 ? "" : "s", gaps.largest,
                    gaps.largest_at);
        fputc('\n', out);
    }
}

static void print_sensitive(const struct scan_image *image, const struct scan_result *result,
                            FILE *out)
{
    fprintf(out, "\nsensitive instructions: %zu\n", result->sensitive_count);
    for (unsigned op = 1; op < OP_COUNT; op++)
        if (result->ops[op])
            fprintf(out, "  %10" PRIu64 "  %s\n", result->ops[op], op_texts[op]);
    if (result->sensitive_count)
        fprintf(out, "\n");
    for (size_t i = 0; i < result->sensitive_count; i++) {
        char text[160];
        fprintf(out, "  0x%" PRIx64 "  %s\n", result->sensitive[i].address,
                disassemble(image, &result->sensitive[i], text, sizeof(text)));
    }
}

static void print_report(const struct scan_image *image, const struct scan_result *result,
                         FILE *out)
{
    uint64_t total = 0;

    for (size_t i = 0; i < image->segment_count; i++)
        total += image->segments[i].size;
    fprintf(out, "%s: %s, %zu entr%s\n", image->path, image->description, image->seed_count,
            image->seed_count == 1 ? "y" : "ies");
    fprintf(out,
            "found ahead of execution: %" PRIu64 " blocks, %" PRIu64 " instructions, %" PRIu64
            " of %" PRIu64 " bytes (%.1f %%)\n",
            result->blocks, result->insns, result->bytes, total, percent(result->bytes, total));
    fprintf(out, "\ninstructions\n");
    for (unsigned c = 0; c <= INSN_CALLOUT; c++)
        fprintf(out, "  %-10s %10" PRIu64 "  %5.1f %%\n", insn_class_name((enum insn_class)c),
                result->classes[c], percent(result->classes[c], result->insns));
    fprintf(out, "\nblocks end at\n");
    for (unsigned e = 0; e <= END_INVALID; e++)
        if (result->ends[e])
            fprintf(out, "  %10" PRIu64 "  %s\n", result->ends[e], end_texts[e].text);
    print_segments(image, out);
    print_sensitive(image, result, out);
}

/* --- JSON --- */

static void add_count(struct json_object *object, const char *key, uint64_t value)
{
    json_object_object_add(object, key, json_object_new_int64((int64_t)value));
}

/* Addresses are strings: JSON numbers lose the low bits of 64. */
static void add_address(struct json_object *object, const char *key, uint64_t address)
{
    char text[24];

    snprintf(text, sizeof(text), "0x%" PRIx64, address);
    json_object_object_add(object, key, json_object_new_string(text));
}

static struct json_object *json_segments(const struct scan_image *image)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < image->segment_count; i++) {
        const struct scan_segment *segment = &image->segments[i];
        struct json_object *item = json_object_new_object();
        struct gaps gaps;
        find_gaps(segment, &gaps);
        json_object_object_add(item, "name", json_object_new_string(segment->name));
        add_address(item, "address", segment->address);
        add_count(item, "bits", segment->bits);
        add_count(item, "bytes", segment->size);
        add_count(item, "not_reached", gaps.bytes);
        add_count(item, "not_reached_ranges", gaps.count);
        json_object_array_add(list, item);
    }
    return list;
}

static struct json_object *json_sensitive(const struct scan_image *image,
                                          const struct scan_result *result)
{
    struct json_object *list = json_object_new_array();

    for (size_t i = 0; i < result->sensitive_count; i++) {
        struct json_object *item = json_object_new_object();
        char text[160];
        add_address(item, "address", result->sensitive[i].address);
        add_count(item, "bits", image->segments[result->sensitive[i].segment].bits);
        json_object_object_add(item, "op",
                               json_object_new_string(op_texts[result->sensitive[i].op]));
        json_object_object_add(
            item, "text",
            json_object_new_string(disassemble(image, &result->sensitive[i], text, sizeof(text))));
        json_object_array_add(list, item);
    }
    return list;
}

static void print_json(const struct scan_image *image, const struct scan_result *result, FILE *out)
{
    struct json_object *root = json_object_new_object();
    struct json_object *classes = json_object_new_object();
    struct json_object *ends = json_object_new_object();
    struct json_object *ops = json_object_new_object();

    for (unsigned c = 0; c <= INSN_CALLOUT; c++)
        add_count(classes, insn_class_name((enum insn_class)c), result->classes[c]);
    for (unsigned e = 0; e <= END_INVALID; e++)
        add_count(ends, end_texts[e].key, result->ends[e]);
    for (unsigned op = 1; op < OP_COUNT; op++)
        if (result->ops[op])
            add_count(ops, op_texts[op], result->ops[op]);
    json_object_object_add(root, "file", json_object_new_string(image->path));
    json_object_object_add(root, "format", json_object_new_string(image->description));
    add_count(root, "entries", image->seed_count);
    add_count(root, "blocks", result->blocks);
    add_count(root, "instructions", result->insns);
    add_count(root, "bytes", result->bytes);
    json_object_object_add(root, "classes", classes);
    json_object_object_add(root, "block_ends", ends);
    json_object_object_add(root, "segments", json_segments(image));
    json_object_object_add(root, "sensitive_counts", ops);
    json_object_object_add(root, "sensitive", json_sensitive(image, result));
    fprintf(out, "%s\n",
            json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY |
                                                     JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(root);
}

int scan_file(const char *path, const struct scan_options *options, FILE *out, struct vd_error *err)
{
    struct scan_image image;
    struct scan_result result;
    int status = 0;

    if (scan_image_load(&image, path, options, err) != 0)
        return -1;
    if (scan_walk(&image, &result, !options->no_progress, err) != 0) {
        scan_image_free(&image);
        return -1;
    }
    if (options->json)
        print_json(&image, &result, out);
    else
        print_report(&image, &result, out);
    if (fflush(out) != 0 || ferror(out))
        status = error_set(err, "%s: cannot write the report: %s", path, strerror(errno));
    scan_result_free(&result);
    scan_image_free(&image);
    return status;
}
