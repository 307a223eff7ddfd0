#!/bin/sh
# Stands for ssh: [USER@]HOST COMMAND...
host=${1#*@}
shift
exec "@FLEET@/sbin/enter" "$host" "$*"
