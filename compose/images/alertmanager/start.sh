#!/bin/sh
# Alertmanager 0.25 cannot read a webhook's URL from a file, and the URL is a secret: whoever has it can raise alarms.
# So the configuration is completed here, in memory. With an empty secret all alerts go to `nobody`: they are seen in
# Alertmanager itself and are sent nowhere.
set -eu
umask 077
config=/run/alertmanager/alertmanager.yml
url=$(cat /run/secrets/alert_webhook 2>/dev/null) || url=''
case $url in
    '') receiver=nobody url=http://127.0.0.1:9/ ;;
    *[[:space:]\"\\]*)
        echo 'start: the secret alert_webhook holds a blank, a quote or a backslash; a URL has none' >&2
        exit 65
        ;;
    http://* | https://*) receiver=webhook ;;
    *)
        echo 'start: the secret alert_webhook holds no URL that begins with http:// or https://' >&2
        exit 65
        ;;
esac
# Through awk's environment and not as program text: a URL may hold any character.
RECEIVER=$receiver URL=$url awk '
    function put(mark, text, at) {
        if (at = index($0, mark)) $0 = substr($0, 1, at - 1) text substr($0, at + length(mark))
    }
    { put("@RECEIVER@", ENVIRON["RECEIVER"]); put("@WEBHOOK@", ENVIRON["URL"]); print }
' /etc/alertmanager/alertmanager.yml >"$config"
amtool check-config "$config" >/dev/null
exec prometheus-alertmanager --config.file="$config" --storage.path=/var/lib/alertmanager \
    --web.listen-address=0.0.0.0:9093 --cluster.listen-address= "$@"
