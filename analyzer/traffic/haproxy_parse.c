/*
 * Both tables are read by one splitter, record by record: `show servers state` separates by single spaces, `show stat`
 * is CSV whose quoted fields may hold commas and line breaks. A row's fields point into a copy of the answer, so a
 * parse allocates the copy, one array of fields and what is kept.
 */
#include "analyzer/traffic/haproxy_parse.h"

#include "base/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WEIGHT_LIMIT = 256, SHARE_LIMIT = 10000, NO_COLUMN = -1 };

/* srv_admin_state: reasons for maintenance (by order, inherited, in the configuration, name resolution …) and drain */
enum { ADMIN_MAINTENANCE = 0x01 | 0x02 | 0x04 | 0x20 | 0x40, ADMIN_DRAIN = 0x08 | 0x10 };

/* srv_op_state: stopped, starting, running, stopping (finishes what it has, takes nothing new) */
enum { OPERATION_STOPPED = 0, OPERATION_STARTING = 1, OPERATION_RUNNING = 2 };

/* The column `type` of `show stat` */
enum { ROW_BACKEND = 1, ROW_SERVER = 2 };

struct record {
    char **fields;
    size_t count, room;
};

const char *haproxy_first_line(const char *answer, char line[HAPROXY_LINE])
{
    size_t n = 0;
    for (; answer[n] && answer[n] != '\n' && n < HAPROXY_LINE - 1; n++)
        line[n] = isprint((unsigned char)answer[n]) ? answer[n] : '?';
    line[n] = '\0';
    return line;
}

void haproxy_backend_free(struct haproxy_backend *backend)
{
    for (size_t i = 0; i < backend->count; i++) {
        free(backend->servers[i].name);
        free(backend->servers[i].address);
    }
    free(backend->servers);
    free(backend->algorithm);
    *backend = (struct haproxy_backend){0};
}

bool haproxy_server_up(const struct haproxy_server *server)
{
    return server->running && !server->maintenance && !server->draining;
}

/* Unquotes one CSV field in place and returns what follows it. */
static char *unquote(char *field)
{
    char *out = field;
    char *in = field + 1;
    while (*in && !(in[0] == '"' && in[1] != '"')) {
        if (*in == '"')
            in++;
        *out++ = *in++;
    }
    char *rest = *in ? in + 1 : in;
    *out = '\0';
    return rest;
}

/* Splits off the next record of `*cursor`, in place; false at the end of the text. */
static bool next_record(char **cursor, char separator, struct record *record)
{
    char *at = *cursor;
    if (!*at)
        return false;
    record->count = 0;
    for (bool last = false; !last;) {
        record->fields = mem_grow(record->fields, record->count, &record->room, sizeof *record->fields);
        record->fields[record->count++] = at;
        if (separator == ',' && *at == '"')
            at = unquote(at);
        at += strcspn(at, separator == ',' ? ",\n" : " \n");
        last = *at != separator;
        if (*at)
            *at++ = '\0';
    }
    *cursor = at;
    return true;
}

static int column(const struct record *header, const char *name)
{
    for (size_t i = 0; i < header->count; i++)
        if (strcmp(header->fields[i], name) == 0)
            return (int)i;
    return NO_COLUMN;
}

/* Finds each of `names` in the header. */
static bool columns(const struct record *header, const char *const *names, size_t count, int *at, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        at[i] = column(header, names[i]);
        if (at[i] == NO_COLUMN)
            return error_set(err, ERROR_DATA,
                             "HAProxy's table has no column %s; haldane needs HAProxy 2.0 or newer (tested with 2.6)",
                             names[i]);
    }
    return true;
}

static const char *field(const struct record *record, int at)
{
    return (size_t)at < record->count ? record->fields[at] : "";
}

static bool number(const char *text, uint64_t limit, uint64_t *value)
{
    uint64_t sum = 0;
    if (!*text)
        return false;
    for (; *text; text++) {
        if (!isdigit((unsigned char)*text))
            return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (sum > (limit - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

/* A cell that is a number. An empty one is 0 if `empty` says so: HAProxy leaves out what does not apply. */
static bool cell(const struct record *record, int at, const char *name, uint64_t limit, bool empty, uint64_t *value,
                 struct error *err)
{
    const char *text = field(record, at);
    *value = 0;
    if ((empty && !*text) || number(text, limit, value))
        return true;
    char line[HAPROXY_LINE];
    return error_set(err, ERROR_DATA, "HAProxy's table has '%.40s' in column %s where a number up to %llu belongs",
                     haproxy_first_line(text, line), name, (unsigned long long)limit);
}

/* A table begins with "# " and its columns; anything else is what HAProxy has against the command. */
static bool header_of(char **cursor, char separator, struct record *header, struct error *err)
{
    if (strncmp(*cursor, "# ", 2) != 0) {
        char line[HAPROXY_LINE];
        return error_set(err, ERROR_DATA, "HAProxy answered: %s", haproxy_first_line(*cursor, line));
    }
    *cursor += 2;
    return next_record(cursor, separator, header) ||
           error_set(err, ERROR_DATA, "HAProxy's table has a header without columns");
}

enum { BE_ID, BE_NAME, SRV_NAME, SRV_OP, SRV_ADMIN, SRV_WEIGHT, SRV_INITIAL, STATE_COLUMNS };

static const char *const state_columns[STATE_COLUMNS] = {
    [BE_ID] = "be_id",
    [BE_NAME] = "be_name",
    [SRV_NAME] = "srv_name",
    [SRV_OP] = "srv_op_state",
    [SRV_ADMIN] = "srv_admin_state",
    [SRV_WEIGHT] = "srv_uweight",
    [SRV_INITIAL] = "srv_iweight",
};

/* Where the address stands; not every version has it, and only `traffic check` and `traffic drain` want it. */
struct address_columns {
    int host, port;
};

static char *address_of(const struct record *row, struct address_columns at)
{
    const char *host = field(row, at.host);
    const char *port = field(row, at.port);
    return *host && *port ? mem_printf("%s:%s", host, port) : mem_strdup("");
}

static bool state_row(const struct record *row, const int at[STATE_COLUMNS], struct address_columns address,
                      struct haproxy_backend *backend, size_t *room, struct error *err)
{
    static const uint64_t limits[STATE_COLUMNS] = {
        [BE_ID] = UINT32_MAX,         [SRV_OP] = 255, [SRV_ADMIN] = UINT32_MAX, [SRV_WEIGHT] = WEIGHT_LIMIT,
        [SRV_INITIAL] = WEIGHT_LIMIT,
    };
    uint64_t values[STATE_COLUMNS] = {0};
    for (int i = 0; i < STATE_COLUMNS; i++)
        if (limits[i] && !cell(row, at[i], state_columns[i], limits[i], false, &values[i], err))
            return false;
    backend->id = (uint32_t)values[BE_ID];
    backend->servers = mem_grow(backend->servers, backend->count, room, sizeof *backend->servers);
    backend->servers[backend->count++] = (struct haproxy_server){
        .name = mem_strdup(field(row, at[SRV_NAME])),
        .weight = (uint32_t)values[SRV_WEIGHT],
        .initial = (uint32_t)values[SRV_INITIAL],
        .running = values[SRV_OP] == OPERATION_STARTING || values[SRV_OP] == OPERATION_RUNNING,
        .stopped = values[SRV_OP] == OPERATION_STOPPED,
        .maintenance = values[SRV_ADMIN] & ADMIN_MAINTENANCE,
        .draining = values[SRV_ADMIN] & ADMIN_DRAIN,
        .address = address_of(row, address),
    };
    return true;
}

static bool state_table(char *cursor, struct record *record, const char *name, struct haproxy_backend *backend,
                        struct error *err)
{
    /* The version of the format comes first, on a line of its own. */
    if (isdigit((unsigned char)*cursor) && strchr(cursor, '\n'))
        cursor = strchr(cursor, '\n') + 1;
    int at[STATE_COLUMNS];
    if (!header_of(&cursor, ' ', record, err) || !columns(record, state_columns, STATE_COLUMNS, at, err))
        return false;
    struct address_columns address = {column(record, "srv_addr"), column(record, "srv_port")};
    size_t room = 0;
    while (next_record(&cursor, ' ', record))
        if (strcmp(field(record, at[BE_NAME]), name) == 0 && !state_row(record, at, address, backend, &room, err))
            return false;
    return true;
}

bool haproxy_parse_state(const char *answer, const char *name, struct haproxy_backend *backend, struct error *err)
{
    char *copy = mem_strdup(answer);
    struct record record = {0};
    bool done = state_table(copy, &record, name, backend, err);
    free(record.fields);
    free(copy);
    if (done && backend->count == 0)
        return error_set(err, ERROR_DATA, "HAProxy lists no server in backend %s", name);
    return done;
}

enum {
    PX_NAME,
    SV_NAME,
    ROW_TYPE,
    STATUS,
    BCK,
    ALGO, /* clang-format off */
    SCUR, QCUR, STOT, HRSP_5XX, ECON, ERESP, WRETR, WREDIS, CHKDOWN, STAT_COLUMNS /* clang-format on */
};

static const char *const stat_columns[STAT_COLUMNS] = {
    [PX_NAME] = "pxname", [SV_NAME] = "svname", [ROW_TYPE] = "type", [STATUS] = "status", [BCK] = "bck",
    [ALGO] = "algo",      [SCUR] = "scur",      [QCUR] = "qcur",     [STOT] = "stot",     [HRSP_5XX] = "hrsp_5xx",
    [ECON] = "econ",      [ERESP] = "eresp",    [WRETR] = "wretr",   [WREDIS] = "wredis", [CHKDOWN] = "chkdown",
};

/* Both tables list the servers in the same order, so the search goes on where the last one ended. */
static struct haproxy_server *find_server(struct haproxy_backend *backend, const char *name, size_t *next)
{
    for (size_t i = 0; i < backend->count; i++) {
        struct haproxy_server *server = &backend->servers[(*next + i) % backend->count];
        if (strcmp(server->name, name) == 0) {
            *next = (*next + i + 1) % backend->count;
            return server;
        }
    }
    return NULL;
}

/*
 * HAProxy counts each time that a server went down, by its checks or by an administrator's hand. All of them came up
 * again, but for the last one if it is still down.
 */
static uint64_t health_changes(uint64_t downs, bool stopped)
{
    return downs == 0 ? 0 : 2 * downs - stopped;
}

static bool stat_server(const struct record *row, const int at[STAT_COLUMNS], struct haproxy_server *server,
                        struct error *err)
{
    uint64_t values[STAT_COLUMNS] = {0};
    for (int i = SCUR; i < STAT_COLUMNS; i++)
        if (!cell(row, at[i], stat_columns[i], UINT64_MAX / 4, true, &values[i], err))
            return false;
    server->backup = strcmp(field(row, at[BCK]), "1") == 0;
    server->checked = strcmp(field(row, at[STATUS]), "no check") != 0;
    server->http = *field(row, at[HRSP_5XX]) != '\0';
    server->total = values[STOT];
    server->failed = values[HRSP_5XX] + values[ERESP];
    server->connection_errors = values[ECON];
    server->retries = values[WRETR];
    server->redispatches = values[WREDIS];
    server->health_changes = health_changes(values[CHKDOWN], server->stopped);
    server->in_flight = values[SCUR] + values[QCUR];
    return true;
}

static bool stat_rows(char *cursor, struct record *record, const int at[STAT_COLUMNS], const char *name,
                      struct haproxy_backend *backend, bool *seen, struct error *err)
{
    size_t next = 0;
    while (next_record(&cursor, ',', record)) {
        uint64_t type = 0;
        if (strcmp(field(record, at[PX_NAME]), name) != 0 || !number(field(record, at[ROW_TYPE]), 9, &type))
            continue;
        if (type == ROW_BACKEND && !backend->algorithm)
            backend->algorithm = mem_strdup(field(record, at[ALGO]));
        if (type != ROW_SERVER)
            continue;
        struct haproxy_server *server = find_server(backend, field(record, at[SV_NAME]), &next);
        if (!server)
            continue;
        if (!stat_server(record, at, server, err))
            return false;
        seen[server - backend->servers] = true;
    }
    return true;
}

static bool stat_table(char *cursor, struct record *record, const char *name, struct haproxy_backend *backend,
                       bool *seen, struct error *err)
{
    int at[STAT_COLUMNS];
    if (!header_of(&cursor, ',', record, err) || !columns(record, stat_columns, STAT_COLUMNS, at, err) ||
        !stat_rows(cursor, record, at, name, backend, seen, err))
        return false;
    for (size_t i = 0; i < backend->count; i++)
        if (!seen[i] || !backend->algorithm)
            return error_set(err, ERROR_UNAVAILABLE,
                             "HAProxy's two tables of backend %s differ (a reload in between?); ask again", name);
    return true;
}

bool haproxy_parse_stat(const char *answer, const char *name, struct haproxy_backend *backend, struct error *err)
{
    char *copy = mem_strdup(answer);
    bool *seen = mem_alloc(backend->count, sizeof *seen);
    struct record record = {0};
    bool done = stat_table(copy, &record, name, backend, seen, err);
    free(record.fields);
    free(seen);
    free(copy);
    return done;
}

/* The number after "NAME: " at the start of a line. */
static bool info_number(const char *answer, const char *name, uint64_t *value)
{
    size_t length = strlen(name);
    for (const char *line = answer; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) != 0 || strncmp(line + length, ": ", 2) != 0)
            continue;
        char digits[21] = "";
        size_t n = strspn(line + length + 2, "0123456789");
        if (n >= sizeof digits)
            return false;
        memcpy(digits, line + length + 2, n);
        return number(digits, UINT64_MAX / 4, value);
    }
    return false;
}

/* The start's second next to the pid, for in a container each process may have the same pid. 2.4 and older: pid only.
 */
bool haproxy_parse_info(const char *answer, uint64_t *generation, struct error *err)
{
    enum { PID_BITS = 22 };
    uint64_t pid = 0;
    uint64_t start = 0;
    if (!info_number(answer, "Pid", &pid)) {
        char line[HAPROXY_LINE];
        return error_set(err, ERROR_DATA, "HAProxy's `show info` has no Pid; it begins: %s",
                         haproxy_first_line(answer, line));
    }
    info_number(answer, "Start_time_sec", &start);
    *generation = start << PID_BITS | (pid & ((UINT64_C(1) << PID_BITS) - 1));
    return true;
}

/*
 * "proc.haldane_now: type=sint value=<1795426862964>", after nothing but the empty lines of the commands before it: a
 * refused `set var` would leave the value of another day to be shown.
 */
bool haproxy_parse_clock(const char *answer, int64_t *now_ms, struct error *err)
{
    static const char begin[] = "proc.haldane_now: type=sint value=<";
    answer += strspn(answer, "\n");
    if (strncmp(answer, begin, strlen(begin)) == 0) {
        char text[21] = "";
        const char *digits = answer + strlen(begin);
        size_t n = strspn(digits, "0123456789");
        uint64_t value = 0;
        if (n < sizeof text && digits[n] == '>') {
            memcpy(text, digits, n);
            if (number(text, INT64_MAX / 2, &value)) {
                *now_ms = (int64_t)value;
                return true;
            }
        }
    }
    char line[HAPROXY_LINE];
    return error_set(err, ERROR_DATA, "HAProxy does not tell its clock (haldane needs 2.4 or newer); it answered: %s",
                     haproxy_first_line(answer, line));
}

/* A sign and the digits after it; what follows them does not count, and too large is as large as can be. */
static int64_t haproxy_number(const char *text)
{
    bool negative = *text == '-';
    int64_t value = 0;
    for (text += negative || *text == '+'; isdigit((unsigned char)*text); text++) {
        int64_t digit = *text - '0';
        value = value > (INT64_MAX - digit) / 10 ? INT64_MAX : value * 10 + digit;
    }
    return negative ? -value : value;
}

enum { ENTRY_CANARY, ENTRY_EPOCH, ENTRY_EXPIRES, ENTRIES };
static const char *const entry_names[ENTRIES] = {"canary", "epoch", "expires"};

/* Takes one line, "0x55f6bd27c0f0 canary 500". False if it is none. */
static bool take_entry(char *line, int64_t values[ENTRIES], size_t seen[ENTRIES + 1])
{
    char *key = strchr(line, ' ');
    if (strncmp(line, "0x", 2) != 0 || !key)
        return false;
    key++;
    char *value = key + strcspn(key, " ");
    if (*value)
        *value++ = '\0';
    for (size_t i = 0; i < ENTRIES; i++)
        if (strcmp(key, entry_names[i]) == 0) {
            if (seen[i]++ == 0)
                values[i] = haproxy_number(value);
            return true;
        }
    seen[ENTRIES]++;
    return true;
}

bool haproxy_parse_split(const char *answer, struct haproxy_split *split, struct error *err)
{
    int64_t values[ENTRIES] = {0};
    size_t seen[ENTRIES + 1] = {0};
    char *copy = mem_strdup(answer);
    char *rest = copy;
    bool fine = true;
    for (char *line = strsep(&rest, "\n"); line && fine; line = strsep(&rest, "\n"))
        fine = !*line || take_entry(line, values, seen);
    free(copy);
    if (!fine) {
        char first[HAPROXY_LINE];
        return error_set(err, ERROR_DATA, "HAProxy answered: %s", haproxy_first_line(answer, first));
    }
    int64_t share = values[ENTRY_CANARY];
    split->share_bp = share < 0 ? 0 : share > SHARE_LIMIT ? SHARE_LIMIT : (uint32_t)share;
    split->epoch = values[ENTRY_EPOCH] < 0 ? 0 : (uint64_t)values[ENTRY_EPOCH];
    split->expires = values[ENTRY_EXPIRES];
    split->whole = seen[ENTRIES] == 0;
    for (size_t i = 0; i < ENTRIES; i++)
        split->whole = split->whole && seen[i] == 1;
    return true;
}

bool haproxy_parse_version(const char *answer, uint64_t *version, struct error *err)
{
    static const char begin[] = "New version created: ";
    if (strncmp(answer, begin, strlen(begin)) == 0) {
        const char *digits = answer + strlen(begin);
        char text[21] = "";
        size_t n = strspn(digits, "0123456789");
        if (n < sizeof text && (digits[n] == '\n' || digits[n] == '\0')) {
            memcpy(text, digits, n);
            if (number(text, UINT32_MAX, version))
                return true;
        }
    }
    char line[HAPROXY_LINE];
    return error_set(err, ERROR_DATA, "HAProxy answered: %s", haproxy_first_line(answer, line));
}

/* "0 (FILE) pattern loaded from file 'FILE' used by map at file 'haproxy.cfg' line 12, by map at ... curr_ver=0 ..." */
size_t haproxy_count_uses(const char *answer, const char *file)
{
    char *name = mem_printf(" (%s) ", file);
    const char *line = strstr(answer, name);
    free(name);
    if (!line)
        return 0;
    const char *end = line + strcspn(line, "\n");
    size_t uses = 0;
    while ((line = strstr(line, "by map at file ")) && line < end) {
        uses++;
        line++;
    }
    return uses;
}

bool haproxy_parse_weight(const char *answer, uint32_t *weight, struct error *err)
{
    char digits[4] = "";
    size_t n = strspn(answer, "0123456789");
    uint64_t value = 0;
    if (n < sizeof digits && strncmp(answer + n, " (initial ", 10) == 0) {
        memcpy(digits, answer, n);
        if (number(digits, WEIGHT_LIMIT, &value)) {
            *weight = (uint32_t)value;
            return true;
        }
    }
    char line[HAPROXY_LINE];
    return error_set(err, ERROR_DATA, "HAProxy answered: %s", haproxy_first_line(answer, line));
}
