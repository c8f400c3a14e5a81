/*
 * fork + exec of this very (static) program, many times: forkexec COUNT. Every child must get its
 * argument, and its exit status must come back; prints "forkexec COUNT ok".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "child") == 0)
        return atoi(argv[2]) % 251;
    int count = argc > 1 ? atoi(argv[1]) : 1000;

    for (int i = 0; i < count; i++) {
        char number[16];
        int status;
        pid_t pid;

        snprintf(number, sizeof(number), "%d", i);
        pid = fork();
        if (pid == 0) {
            execl("/proc/self/exe", argv[0], "child", number, (char *)NULL);
            _exit(255);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid) {
            printf("forkexec failed at %d: fork or wait\n", i);
            return 1;
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != i % 251) {
            printf("forkexec failed at %d: status %#x\n", i, status);
            return 1;
        }
    }
    printf("forkexec %d ok\n", count);
    return 0;
}
