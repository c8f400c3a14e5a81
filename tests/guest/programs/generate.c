/* generate MIB: that many MiB of deterministic, compressible text on standard output. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static const char *const words[] = {"sentry", "horse",  "lantern", "ridge", "march", "gate",
                                        "river",  "signal", "watch",   "dusk",  "drum",  "road",
                                        "banner", "camp",   "rider",   "north"};
    static char block[65536];
    long blocks = (argc > 1 ? atol(argv[1]) : 1) * 16;
    uint64_t seed = 0x243f6a8885a308d3u;

    while (blocks-- > 0) {
        size_t used = 0;

        while (used < sizeof(block)) {
            char text[32];
            int n;

            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            n = snprintf(text, sizeof(text), seed & 0x300000 ? "%s " : "%s %u\n",
                         words[seed >> 24 & 15], (unsigned)(seed >> 40));
            if ((size_t)n > sizeof(block) - used)
                n = (int)(sizeof(block) - used);
            memcpy(block + used, text, (size_t)n);
            used += (size_t)n;
        }
        for (size_t done = 0; done < sizeof(block);) {
            ssize_t n = write(1, block + done, sizeof(block) - done);

            if (n <= 0)
                return 1;
            done += (size_t)n;
        }
    }
    return 0;
}
