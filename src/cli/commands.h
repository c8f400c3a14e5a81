/* The subcommands. argv[0] is the subcommand's name; each returns the exit code. */
#ifndef VD_CLI_COMMANDS_H
#define VD_CLI_COMMANDS_H

int command_run(int argc, char **argv);
int command_scan(int argc, char **argv);
int command_help(int argc, char **argv);
int command_version(int argc, char **argv);

void help_run(void);
void help_scan(void);
void help_overview(void);

#endif
