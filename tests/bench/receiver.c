/* A receiver that costs next to nothing, so that what is measured against it is the client.
 *
 * Speaks the base protocol and the bulk extension as far as a client of an empty server needs them: it counts entries
 * by their newlines, keeps no content, computes no chain hash (`null` says so) and answers every append with a correct
 * head. One thread, epoll, keep-alive, bodies with Content-Length only.
 *
 *   cc -O2 -o receiver receiver.c && ./receiver     says "ready PORT" on stdout; ends when its stdin does
 *
 * GET /stats   what came, as JSON; `entries` are those that either protocol stored, `lines` the newlines of bodies
 * GET /marks   one line for each BENCHMARK:<number>; seen in a body of at most 256 KiB: the number, and the monotonic
 *              time in ns at which that body was complete
 * POST /raw    takes a body and counts its lines
 * POST /reset  forgets everything
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 18, HEAD_BYTES = 1 << 14, KEPT_BYTES = 1 << 18, KEY_BYTES = 256, SLOTS = 1 << 17 };

#define BASE "/v1/session_ingress/"
#define MARK "BENCHMARK:"

typedef struct {
    char key[KEY_BYTES];
    char generation[64];
    uint64_t entries;
} Stream;

typedef struct {
    int fd, has_head, close_after;
    char head[HEAD_BYTES + 1];
    size_t head_bytes;
    char method[8], target[512], generation[64];
    int has_count;
    uint64_t count, body_left, body_bytes, lines;
    char *kept;
    size_t kept_bytes;
} Connection;

static struct {
    uint64_t requests, puts, posts, conflicts, entries, connections, body_bytes, lines, first_ns, last_ns;
} seen;
static Stream *streams;
static size_t stream_count;
static char *marks;
static size_t marks_bytes, marks_room;
static char piece[READ_BYTES];

static uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static Stream *find_stream(const char *key) {
    uint64_t hash = 1469598103934665603u;
    for (const char *at = key; *at; at++) hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    size_t slot = hash % SLOTS;
    while (streams[slot].key[0]) {
        if (!strcmp(streams[slot].key, key)) return &streams[slot];
        slot = (slot + 1) % SLOTS;
    }
    if (++stream_count > SLOTS / 2) {
        fprintf(stderr, "more than %d streams\n", SLOTS / 2);
        exit(1);
    }
    snprintf(streams[slot].key, KEY_BYTES, "%s", key);
    return &streams[slot];
}

static void send_all(Connection *one, const char *data, size_t size) {
    while (size) {
        ssize_t sent = send(one->fd, data, size, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR) return;
            usleep(100);
            continue;
        }
        data += sent;
        size -= (size_t)sent;
    }
}

static void answer(Connection *one, int status, const char *type, const char *body, size_t size) {
    char text[1024];
    int head = snprintf(text, sizeof text, "HTTP/1.1 %d X\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", status,
                        type, size);
    if (size < sizeof text - (size_t)head) { /* one packet where it fits */
        memcpy(text + head, body, size);
        send_all(one, text, (size_t)head + size);
    } else {
        send_all(one, text, (size_t)head);
        send_all(one, body, size);
    }
}

static void answer_json(Connection *one, int status, const char *body) {
    answer(one, status, "application/json", body, strlen(body));
}

static void answer_head(Connection *one, int status, const Stream *stream) {
    char body[256];
    if (stream->generation[0])
        snprintf(body, sizeof body, "{\"last_uuid\":null,\"entry_count\":%llu,\"generation\":\"%s\",\"chain_hash\":null}",
                 (unsigned long long)stream->entries, stream->generation);
    else
        snprintf(body, sizeof body, "{\"last_uuid\":null,\"entry_count\":%llu,\"generation\":null,\"chain_hash\":null}",
                 (unsigned long long)stream->entries);
    answer_json(one, status, body);
}

static void answer_stats(Connection *one) {
    char body[512];
    snprintf(body, sizeof body,
             "{\"requests\":%llu,\"puts\":%llu,\"posts\":%llu,\"conflicts\":%llu,\"entries\":%llu,\"connections\":%llu,"
             "\"body_bytes\":%llu,\"lines\":%llu,\"first_ns\":%llu,\"last_ns\":%llu}",
             (unsigned long long)seen.requests, (unsigned long long)seen.puts, (unsigned long long)seen.posts,
             (unsigned long long)seen.conflicts, (unsigned long long)seen.entries, (unsigned long long)seen.connections,
             (unsigned long long)seen.body_bytes, (unsigned long long)seen.lines, (unsigned long long)seen.first_ns,
             (unsigned long long)seen.last_ns);
    answer_json(one, 200, body);
}

static void collect_marks(const char *data, size_t size, uint64_t at_ns) {
    const char *end = data + size, *at = data;
    while ((at = memmem(at, (size_t)(end - at), MARK, sizeof MARK - 1))) {
        at += sizeof MARK - 1;
        const char *stop = memchr(at, ';', (size_t)(end - at));
        if (!stop || stop - at > 20) continue;
        if (marks_bytes + 64 > marks_room) {
            marks_room = marks_room ? 2 * marks_room : 1 << 16;
            if (!(marks = realloc(marks, marks_room))) fail("realloc");
        }
        marks_bytes += (size_t)sprintf(marks + marks_bytes, "%.*s %llu\n", (int)(stop - at), at,
                                       (unsigned long long)at_ns);
    }
}

/* POST …/entries: the guard is the count; the generation is taken from whoever comes first. */
static void append(Connection *one, const char *key) {
    Stream *stream = find_stream(key);
    if (!one->has_count || one->count != stream->entries ||
        (stream->generation[0] && strcmp(stream->generation, one->generation))) {
        seen.conflicts++;
        answer_head(one, 409, stream);
        return;
    }
    if (!stream->generation[0]) snprintf(stream->generation, sizeof stream->generation, "%s", one->generation);
    stream->entries += one->lines;
    seen.entries += one->lines;
    answer_head(one, 200, stream);
}

/* `tail` is what follows the session's id in the path; the key is the id and the query, which names the subpath. */
static void answer_session(Connection *one, char *id) {
    char key[KEY_BYTES], *query = strchr(id, '?'), *tail;
    if (query) *query++ = 0;
    if ((tail = strchr(id, '/'))) *tail++ = 0;
    snprintf(key, sizeof key, "%.100s?%.150s", id, query ? query : "");
    if (!strcmp(one->method, "POST") && tail && !strcmp(tail, "entries")) {
        append(one, key);
    } else if (!strcmp(one->method, "PUT") && !tail) {
        find_stream(key)->entries++;
        seen.entries++;
        answer_json(one, 200, "{}");
    } else if (!strcmp(one->method, "PUT") && !strcmp(tail, "meta")) {
        answer_json(one, 200, "{}");
    } else if (!strcmp(one->method, "GET") && tail && !strcmp(tail, "head")) {
        answer_head(one, 200, find_stream(key));
    } else if (!strcmp(one->method, "GET") && tail && !strcmp(tail, "streams")) {
        answer_json(one, 200, "{\"streams\":[]}");
    } else {
        answer_json(one, 404, "{\"title\":\"not found\",\"status\":404}");
    }
}

static void request_ended(Connection *one) {
    uint64_t at_ns = now_ns();
    if (!strcmp(one->target, "/stats")) {
        answer_stats(one);
    } else if (!strcmp(one->target, "/marks")) {
        answer(one, 200, "text/plain", marks ? marks : "", marks_bytes);
    } else if (!strcmp(one->target, "/reset")) {
        memset(&seen, 0, sizeof seen);
        memset(streams, 0, SLOTS * sizeof *streams);
        stream_count = marks_bytes = 0;
        answer_json(one, 200, "{}");
    } else {
        seen.requests++;
        seen.puts += !strcmp(one->method, "PUT");
        seen.posts += !strcmp(one->method, "POST");
        seen.body_bytes += one->body_bytes;
        seen.lines += one->lines;
        seen.first_ns = seen.first_ns ? seen.first_ns : at_ns;
        seen.last_ns = at_ns;
        if (one->body_bytes <= KEPT_BYTES) collect_marks(one->kept, one->kept_bytes, at_ns);
        if (!strcmp(one->target, BASE "capabilities"))
            answer_json(one, 200,
                        "{\"protocol\":1,\"bulk\":{\"max_bytes\":8388608,\"max_entries\":10000,\"encodings\":[]},"
                        "\"generations\":false,\"files\":false,\"delete\":false}");
        else if (!strncmp(one->target, BASE "session/", sizeof BASE "session/" - 1))
            answer_session(one, one->target + sizeof BASE "session/" - 1);
        else if (!strcmp(one->target, "/raw"))
            answer_json(one, 200, "{}");
        else
            answer_json(one, 404, "{\"title\":\"not found\",\"status\":404}");
    }
    one->has_head = 0;
    one->head_bytes = one->kept_bytes = 0;
    one->body_bytes = one->lines = 0;
}

static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, name, length) && line[length] == ':') {
            line += length + 1;
            return line + strspn(line, " ");
        }
    }
    return NULL;
}

/* 0 when this is no request that we can take. */
static int read_head(Connection *one) {
    const char *value;
    if (sscanf(one->head, "%7s %511s", one->method, one->target) != 2) return 0;
    if (header(one->head, "Transfer-Encoding") || header(one->head, "Content-Encoding")) {
        answer_json(one, 411, "{\"title\":\"a plain body with Content-Length, please\",\"status\":411}");
        return 0;
    }
    one->body_left = (value = header(one->head, "Content-Length")) ? strtoull(value, NULL, 10) : 0;
    one->has_count = (value = header(one->head, "Entry-Count")) != NULL;
    one->count = value ? strtoull(value, NULL, 10) : 0;
    one->generation[0] = 0;
    if ((value = header(one->head, "Generation"))) sscanf(value, "%63[0-9a-f-]", one->generation);
    one->close_after = (value = header(one->head, "Connection")) && !strncasecmp(value, "close", 5);
    one->has_head = 1;
    return 1;
}

static void take_body(Connection *one, const char *data, size_t size) {
    for (const char *at = data, *end = data + size; (at = memchr(at, '\n', (size_t)(end - at))); at++) one->lines++;
    one->body_left -= size;
    one->body_bytes += size;
    if (one->body_bytes <= KEPT_BYTES) {
        memcpy(one->kept + one->kept_bytes, data, size);
        one->kept_bytes += size;
    }
}

/* 0 when the connection has to end. */
static int take(Connection *one, const char *data, size_t size) {
    while (size) {
        if (!one->has_head) {
            size_t before = one->head_bytes, room = HEAD_BYTES - before, used = size < room ? size : room;
            memcpy(one->head + before, data, used);
            one->head_bytes += used;
            one->head[one->head_bytes] = 0;
            char *end = strstr(one->head + (before > 3 ? before - 3 : 0), "\r\n\r\n");
            if (!end) return one->head_bytes < HEAD_BYTES;
            end[2] = 0;
            used = (size_t)(end + 4 - one->head) - before;
            data += used;
            size -= used;
            if (!read_head(one)) return 0;
        }
        size_t used = size < one->body_left ? size : (size_t)one->body_left;
        take_body(one, data, used);
        data += used;
        size -= used;
        if (!one->body_left) {
            request_ended(one);
            if (one->close_after) return 0;
        }
    }
    return 1;
}

static void end_connection(Connection *one) {
    close(one->fd);
    free(one->kept);
    free(one);
}

static void accept_one(int listener, int poll) {
    int yes = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    Connection *one = calloc(1, sizeof *one);
    if (!one || !(one->kept = malloc(KEPT_BYTES))) fail("malloc");
    one->fd = fd;
    struct epoll_event wish = {.events = EPOLLIN, .data.ptr = one};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wish)) fail("epoll_ctl");
    seen.connections++;
}

int main(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), poll = epoll_create1(EPOLL_CLOEXEC);
    if (listener < 0 || poll < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) ||
        listen(listener, 128) || getsockname(listener, (struct sockaddr *)&address, &length))
        fail("listen");
    if (!(streams = calloc(SLOTS, sizeof *streams))) fail("calloc");
    static int listening, stdin_open;
    struct epoll_event wishes[2] = {{.events = EPOLLIN, .data.ptr = &listening},
                                    {.events = EPOLLIN, .data.ptr = &stdin_open}};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, listener, &wishes[0]) || epoll_ctl(poll, EPOLL_CTL_ADD, 0, &wishes[1]))
        fail("epoll_ctl");
    printf("ready %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(poll, events, 64, -1);
        for (int at = 0; at < count; at++) {
            if (events[at].data.ptr == &stdin_open) {
                if (read(0, piece, sizeof piece) <= 0) return 0;
            } else if (events[at].data.ptr == &listening) {
                accept_one(listener, poll);
            } else {
                Connection *one = events[at].data.ptr;
                ssize_t size = recv(one->fd, piece, sizeof piece, 0);
                if (size < 0 && (errno == EAGAIN || errno == EINTR)) continue;
                if (size <= 0 || !take(one, piece, (size_t)size)) end_connection(one);
            }
        }
    }
}
