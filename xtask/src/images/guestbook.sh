#!/bin/sh
# The guestbook's application: a CGI that keeps messages in Redis.
# GET lists the messages from a follower; POST (one line of text) writes one to the leader.
leader="${REDIS_LEADER:-redis-leader}"
follower="${REDIS_FOLLOWER:-redis-follower}"

fail() {
    echo "$1" >&2
    printf 'Status: 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\n%s\n' "$1"
    exit 0
}

case "$REQUEST_METHOD" in
POST)
    message="$(head -c "${CONTENT_LENGTH:-0}" | tr -d '\r\n' | cut -c1-200)"
    said="$(redis-cli -h "$leader" RPUSH guestbook "$message" 2>&1)" || fail "the leader does not answer: $said"
    printf 'Status: 201 Created\r\nContent-Type: text/plain\r\n\r\nsigned\n'
    ;;
GET | HEAD)
    messages="$(redis-cli -h "$follower" LRANGE guestbook 0 -1 2>&1)" || fail "no follower answers: $messages"
    printf 'Content-Type: text/plain; charset=utf-8\r\n\r\n%s\n' "$messages"
    ;;
*)
    printf 'Status: 405 Method Not Allowed\r\nAllow: GET, POST\r\nContent-Type: text/plain\r\n\r\n'
    ;;
esac
