#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "vedette/vedette.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    void (*help)(void);
    const char *summary;
} commands[] = {
    {"run", command_run, help_run, "run a PC"},
    {"scan", command_scan, help_scan, "show what the translator makes of a file's code"},
    {"help", command_help, help_overview, "explain a command"},
    {"version", command_version, NULL, "print the version"},
};
enum { COMMAND_COUNT = sizeof(commands) / sizeof(commands[0]) };

void help_overview(void)
{
    puts("usage: vedette COMMAND [OPTION]...\n"
         "\n"
         "Runs unmodified x86 PCs on any x86-64 Linux host, without hardware virtualization.\n"
         "\n"
         "Commands:");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        printf("  %-10s%s\n", commands[i].name, commands[i].summary);
    puts("\n"
         "'vedette COMMAND --help' lists the options of a command. For example:\n"
         "  vedette run --kernel bzImage --initrd initrd.gz --append console=ttyS0 --serial stdio");
}

static int unknown_command(const char *name)
{
    const char *names[COMMAND_COUNT + 1] = {NULL};
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        names[i] = commands[i].name;
    const char *like = suggest(name, names);
    if (like)
        return usage_error("unknown command '%s', did you mean '%s'?", name, like);
    return usage_error("unknown command '%s' (see 'vedette help')", name);
}

int command_help(int argc, char **argv)
{
    if (argc < 2 || argv[1][0] == '-') {
        help_overview();
        return finish_output();
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (!strcmp(commands[i].name, argv[1]) && commands[i].help) {
            commands[i].help();
            return finish_output();
        }
    }
    return unknown_command(argv[1]);
}

int command_version(int argc, char **argv)
{
    if (argc > 1)
        return usage_error("unexpected argument '%s'", argv[1]);
    puts("vedette " VD_VERSION);
    return finish_output();
}

/* Files opened later must not become standard input, output or error by accident. */
static void fill_standard_descriptors(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_WRONLY : O_RDONLY) != fd)
            _exit(EXIT_CODE_HOST);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    if (argc < 2)
        return usage_error("no command given (see 'vedette help')");
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "-help"))
        name = "help";
    if (!strcmp(name, "--version") || !strcmp(name, "-version"))
        name = "version";
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (!strcmp(commands[i].name, name))
            return commands[i].run(argc - 1, argv + 1);
    if (name[0] == '-')
        return usage_error("'%s' needs a command before it: vedette run %s ...", name, name);
    return unknown_command(name);
}
