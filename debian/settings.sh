# Settings and where they are written down; put into config and postinst by debian/rules.
# Shell and awk only: config runs before anything that the package depends on is there.
CONFIG_DIR=/etc/agentd
OURS=$CONFIG_DIR/conf.d/00-debconf.toml
QUESTIONS="language backend vertex-project vertex-location attention capture-device playback-device"

key_of() { # key_of QUESTION: "table key default"
    case $1 in
        language) echo live language ;;
        backend) echo live backend ;;
        vertex-project) echo live project ;;
        vertex-location) echo live location ;;
        attention) echo attention mode ;;
        capture-device) echo audio capture_device ;;
        playback-device) echo audio playback_device ;;
    esac
}

default_of() { # default_of QUESTION: what the daemon does without a setting
    case $1 in
        language) echo en-US ;;
        backend) echo developer ;;
        attention) echo open ;;
        vertex-project) echo ;;
        vertex-location) echo us-central1 ;;
        *) echo default ;;
    esac
}

# Print the last string that the files assign to TABLE.KEY; nothing when none does.
read_toml() { # read_toml TABLE KEY FILE...
    table=$1 key=$2
    shift 2
    [ $# -gt 0 ] || return 0
    awk -v table="$table" -v key="$key" '
        FNR == 1 { here = "" }
        /^[ \t]*\[/ { split($0, part, /[]\[]/); here = part[2]; gsub(/[ \t]/, "", here); next }
        here == table && match($0, "^ *" key " *= *[\"\047]") {
            quote = substr($0, RLENGTH, 1)
            rest = substr($0, RLENGTH + 1)
            end = index(rest, quote)
            if (end) value = substr(rest, 1, end - 1)
        }
        END { print value }' "$@"
}

# What a person wrote, in the main file or in a drop-in; later files win, as in the daemon.
hand_value() { # hand_value TABLE KEY
    set -- "$1" "$2" "$CONFIG_DIR/agentd.toml" "$CONFIG_DIR"/conf.d/*.toml
    wanted="$1 $2"
    shift 2
    files=
    for file in "$@"; do
        [ "$file" = "$OURS" ] || [ ! -r "$file" ] || files="$files $file"
    done
    # File names with spaces are left to the daemon: the directory is root's own.
    # shellcheck disable=SC2086
    read_toml $wanted $files
}

our_value() { # our_value TABLE KEY
    [ ! -r "$OURS" ] || read_toml "$1" "$2" "$OURS"
}
