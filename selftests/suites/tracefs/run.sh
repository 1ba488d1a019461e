#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
# Kprobe events through tracefs, without any BPF: what a user of `perf probe` and of trace-cmd stands on.
tracefs=/sys/kernel/tracing
event=vmtest/opened
calls=20
number=0

result() { # NAME, with the status of the command before
    [ $? -eq 0 ] && word=ok || word="not ok"
    number=$((number + 1))
    echo "$word $number - $1"
}
hits() {
    while read -r name count missed; do
        [ "$name" = opened ] && echo "$count $missed"
    done < $tracefs/kprobe_profile
}

echo "KTAP version 1"
echo "1..4"
[ -e $tracefs/kprobe_events ] || mount -t tracefs tracefs $tracefs

echo "p:$event do_sys_openat2" >> $tracefs/kprobe_events && [ -d $tracefs/events/$event ]
result made

# At least as often: others open files at any time.
echo 1 > $tracefs/events/$event/enable
before=$(hits)
call=0
while [ $call -lt $calls ]; do
    : < /dev/null
    call=$((call + 1))
done
after=$(hits)
echo 0 > $tracefs/events/$event/enable
echo "# hits and misses before: $before, after $calls calls: $after"
[ $((${after% *} - ${before% *})) -ge $calls ] && [ "${after#* }" -eq 0 ]
result counts_each_call

echo "p:vmtest/nothing no_such_function_anywhere" >> $tracefs/kprobe_events 2> /dev/null
[ $? -ne 0 ] && [ ! -d $tracefs/events/vmtest/nothing ]
result unknown_function_refused

echo "-:$event" >> $tracefs/kprobe_events && [ ! -e $tracefs/events/$event ]
result removed
