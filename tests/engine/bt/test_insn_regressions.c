/* One test for every bug that insn-diff found; each says what went wrong. */
#include "guest.h"

#include <string.h>

/* DF went back to its old value when an access missed the TLB while arithmetic flags were dead. */
GUEST_CODE(direction_at_miss, 32,
           "mov $0x100800, %esi\n mov $0x180800, %edi\n movl $0x1234, (%esi)\n"
           "mov $0x200ffe, %ebx\n std\n mov (%ebx), %eax\n movsl\n cld\n xor %eax, %eax\n hlt");

static void test_direction_survives_slow_access(void **state)
{
    (void)state;
    struct guest g;
    guest_create(&g, 32);
    guest_exec(&g, direction_at_miss);
    assert_int_equal(g.state.gpr[X86_RSI], 0x1007fc);
    assert_int_equal(g.state.gpr[X86_RDI], 0x1807fc);
    guest_destroy(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_direction_survives_slow_access),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
