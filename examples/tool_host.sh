#!/bin/bash
# Let the model ask how long this machine has been up: a tool host in shell.
# Needs socat and jq. Run it as a member of agentd-tools.
set -eu
socket=${1:-/run/agentd-doors/agentd-tools/control.sock}

coproc DAEMON { socat - "UNIX-CONNECT:$socket"; }
jq -cn '{jsonrpc: "2.0", id: 0, method: "tools.offer", params: {host: "shell", tools: [
    {name: "uptime", description: "Return how many seconds this machine has been up."}]}}' \
    >&"${DAEMON[1]}"
while read -r line <&"${DAEMON[0]}"; do
    case $(jq -r '.method // (if .error then "error" else "answer" end)' <<< "$line") in
        tool.call)
            read -r seconds _ < /proc/uptime
            jq -c --arg up "$seconds" '{jsonrpc: "2.0", id: .id, result: {seconds: ($up | tonumber)}}' \
                <<< "$line" >&"${DAEMON[1]}"
            ;;
        error)
            jq -r .error.message <<< "$line" >&2
            exit 1
            ;;
    esac
done
