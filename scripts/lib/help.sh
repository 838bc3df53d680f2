# Sourced by every script in scripts: with -h or --help, the comment at the script's top is the answer.
case ${1:-} in
  -h | --help)
    awk 'NR == 1 {next} !/^#/ {exit} {sub(/^# ?/, ""); print}' "$0"
    exit 0
    ;;
esac
