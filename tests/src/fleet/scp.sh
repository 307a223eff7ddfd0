#!/bin/sh
# Stands for scp: FILE [USER@]HOST:[DIR/]
set -eu
name=$(basename "$1") host=${2%%:*} dir=${2#*:}
"@FLEET@/sbin/enter" "${host#*@}" "cat >${dir:-./}$name; chmod $(stat -c %a "$1") ${dir:-./}$name" <"$1"
