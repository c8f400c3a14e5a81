/* Surfaces, their dirty rectangles, and PNG files. */
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "display/display.h"
#include "display/png_file.h"
#include "display/surface.h"
#include "support/scratch.h"

static void test_resize(void **state)
{
    (void)state;
    struct surface surface;
    surface_init(&surface);
    assert_int_equal(surface_resize(&surface, 0, 10), -1);
    assert_int_equal(surface_resize(&surface, SURFACE_MAX_WIDTH + 1, 10), -1);
    assert_int_equal(surface_resize(&surface, 640, 400), 0);
    assert_int_equal(surface.dirty_count, 1);
    assert_int_equal(surface.dirty[0].width, 640);
    assert_int_equal(surface.dirty[0].height, 400);
    uint64_t generation = surface.generation;
    surface_row(&surface, 399)[639] = 0x123456;
    assert_int_equal(surface_resize(&surface, 640, 400), 0);
    assert_int_equal(surface.generation, generation);
    assert_int_equal(surface_row(&surface, 399)[639], 0x123456);
    assert_int_equal(surface_resize(&surface, 320, 200), 0);
    assert_int_not_equal(surface.generation, generation);
    assert_int_equal(surface_row(&surface, 199)[319], 0);
    surface_free(&surface);
}

static bool covered(const struct surface *surface, unsigned x, unsigned y)
{
    for (unsigned i = 0; i < surface->dirty_count; i++) {
        const struct rect *r = &surface->dirty[i];
        if (x >= r->x && x < r->x + r->width && y >= r->y && y < r->y + r->height)
            return true;
    }
    return false;
}

static void test_dirty(void **state)
{
    (void)state;
    struct surface surface;
    surface_init(&surface);
    assert_int_equal(surface_resize(&surface, 100, 100), 0);
    surface_clear_dirty(&surface);
    for (unsigned y = 10; y < 20; y++)
        surface_mark_dirty(&surface, 0, y, 100, 1);
    assert_int_equal(surface.dirty_count, 1); /* rows in sequence become one rectangle */
    assert_true(covered(&surface, 99, 19));
    assert_false(covered(&surface, 0, 20));
    assert_false(covered(&surface, 0, 9));
    surface_mark_dirty(&surface, 90, 95, 50, 50); /* clipped */
    assert_int_equal(surface.dirty_count, 2);
    assert_int_equal(surface.dirty[1].width, 10);
    assert_int_equal(surface.dirty[1].height, 5);
    surface_mark_dirty(&surface, 100, 0, 1, 1);
    assert_int_equal(surface.dirty_count, 2);
    for (unsigned i = 0; i < 40; i++)
        surface_mark_dirty(&surface, i * 2, (i * 37) % 100, 1, 1);
    assert_true(surface.dirty_count <= SURFACE_MAX_DIRTY);
    for (unsigned i = 0; i < 40; i++)
        assert_true(covered(&surface, i * 2, (i * 37) % 100));
    assert_true(covered(&surface, 99, 99));
    surface_free(&surface);
}

static void test_png(void **state)
{
    (void)state;
    struct scratch scratch;
    char path[SCRATCH_PATH];
    struct surface surface;
    struct vd_error err;
    assert_int_equal(scratch_open(&scratch), 0);
    scratch_path(&scratch, "picture.png", path);
    surface_init(&surface);
    assert_int_equal(png_file_write(path, &surface, &err), -1);
    assert_int_equal(surface_resize(&surface, 3, 2), 0);
    surface_row(&surface, 0)[0] = 0xff112233; /* the top byte is not part of the picture */
    surface_row(&surface, 1)[2] = 0x00fedcba;
    assert_int_equal(png_file_write(path, &surface, &err), 0);
    png_image image = {.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_file(&image, path));
    assert_int_equal(image.width, 3);
    assert_int_equal(image.height, 2);
    assert_int_equal(image.format, PNG_FORMAT_RGB);
    uint8_t bytes[18];
    assert_true(png_image_finish_read(&image, NULL, bytes, 0, NULL));
    assert_memory_equal(bytes, "\x11\x22\x33\0\0\0", 6);
    assert_memory_equal(bytes + 15, "\xfe\xdc\xba", 3);
    assert_int_equal(png_file_write("/nonexistent/dir/x.png", &surface, &err), -1);
    assert_non_null(strstr(err.text, "/nonexistent/dir/x.png"));
    assert_int_equal(png_file_write("/dev/full", &surface, &err), -1);
    surface_free(&surface);
    assert_int_equal(scratch_close(&scratch), 0);
}

/* A source that counts, and a sink that watches. */
struct scene {
    pthread_mutex_t lock;
    bool was_locked;
    unsigned refreshes, updates;
    uint32_t colour, last_seen;
    bool destroyed;
};

static void scene_refresh(void *ctx, struct surface *surface, struct text_screen *text)
{
    struct scene *scene = ctx;
    (void)text;
    scene->was_locked = pthread_mutex_trylock(&scene->lock) != 0;
    scene->refreshes++;
    if (surface && surface_resize(surface, 8, 8) == 0) {
        surface_row(surface, 0)[0] = scene->colour;
        surface_mark_dirty(surface, 0, 0, 1, 1);
    }
}

static void scene_update(void *ctx, const struct surface *surface, const struct text_screen *text)
{
    struct scene *scene = ctx;
    assert_null(text);
    scene->updates++;
    scene->last_seen = surface_row(surface, 0)[0];
}

static void scene_destroy(void *ctx)
{
    struct scene *scene = ctx;
    scene->destroyed = true;
}

static void test_display_thread(void **state)
{
    (void)state;
    struct scene scene = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct display *display;
    struct vd_error err;
    assert_int_equal(display_create(&display, &err), 0);
    const struct display_source source = {&scene, &scene.lock, scene_refresh};
    const struct display_sink sink = {
        .ctx = &scene, .wants_surface = true, .update = scene_update, .destroy = scene_destroy};
    display_set_source(display, &source);
    assert_int_equal(display_start(display, &err), 0);
    usleep(50000);
    assert_int_equal(scene.refreshes, 0); /* nobody looks, nothing is drawn */
    assert_int_equal(display_add_sink(display, &sink, &err), 0);
    assert_int_equal(display_start(display, &err), 0);
    usleep(200000);
    pthread_mutex_lock(&scene.lock);
    assert_in_range(scene.refreshes, 2, 10);
    scene.colour = 0xabcdef;
    pthread_mutex_unlock(&scene.lock);
    display_stop(display);
    assert_true(scene.was_locked);
    assert_int_equal(scene.last_seen, 0xabcdef); /* the final picture is always delivered */
    assert_int_equal(scene.updates, scene.refreshes);
    display_destroy(display);
    assert_true(scene.destroyed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resize),
        cmocka_unit_test(test_dirty),
        cmocka_unit_test(test_png),
        cmocka_unit_test(test_display_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
