/*
 * journal: a script writes a journal as ingest does, with kills in between, and then damages its files. What
 * is read afterwards was written; what no damage touched is there; without damage it is all there and nothing
 * else. What recovery then makes of it, a second crash finds the same. Payloads may be pictures of records:
 * the salt, which hangs on the whole input here, keeps them from being read as such.
 */
#include "fuzz.h"

#include "base/log.h"
#include "ingest/call_record.h"
#include "ingest/recovery.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT     ((size_t)96 << 10)
#define RECORDS_MAX 256
#define SPOTS_MAX   64
#define OPS_MAX     96
#define KILLS_MAX   4 /* each start reads all of it */
#define DAY_US      1795421624000000

struct written {
    enum journal_kind kind;
    uint64_t seq;
    struct uuid call_id;
    char *payload;
    size_t len;
    bool live; /* its call's newest, at the last kill: */
    uint64_t segment;
    size_t offset;
};

struct spot {
    uint64_t segment;
    size_t from;
    size_t to;
};

static char home[256];
static const struct journal_options options = {home, 4 * SEGMENT, SEGMENT};
static uint64_t chance;
static struct written written[RECORDS_MAX];
static size_t written_count;
static struct spot spot[SPOTS_MAX];
static size_t spot_count;
static char head_bytes[4096];
static size_t head_len;

/* Instances and salts hang on the input: a run can be repeated, and no input can hold its own salt. */
ssize_t getrandom(void *out, size_t len, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < len; i++) {
        uint64_t z = (chance += 0x9e3779b97f4a7c15);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
        z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
        ((unsigned char *)out)[i] = (unsigned char)(z ^ (z >> 31));
    }
    return (ssize_t)len;
}

static void home_clear(void)
{
    char path[512];
    DIR *d = opendir(home);
    for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
        (void)snprintf(path, sizeof path, "%s/%s", home, e->d_name);
        DIR *in = e->d_name[0] == '.' ? NULL : opendir(path);
        for (const struct dirent *f; in != NULL && (f = readdir(in)) != NULL;)
            (void)unlinkat(dirfd(in), f->d_name, 0);
        if (in != NULL)
            (void)closedir(in);
        (void)rmdir(path);
    }
    if (d != NULL)
        (void)closedir(d);
}

static void home_remove(void)
{
    home_clear();
    (void)rmdir(home);
}

/* An open call's head that recovery can turn into a finished one. */
static void head_make(void)
{
    struct spend_call call = {.source = SOURCE_GATEWAY,
                              .instance = SV_LIT("0193c9a2-0000-7000-8000-000000000001"),
                              .boot = OPT_I64(1),
                              .seq = OPT_I64(1),
                              .admitted_at = DAY_US,
                              .received_at = DAY_US,
                              .operation = OPERATION_CHAT,
                              .path = SV_LIT("/v1/chat/completions"),
                              .upstream = SV_LIT("up:1"),
                              .outcome = OUTCOME_UNKNOWN,
                              .quality = QUALITY_ESTIMATED};
    struct buffer out;
    struct err err = {0};
    struct strview tags = SV_NULL;
    buffer_init(&out, sizeof head_bytes);
    call.call_id = uuid_v7(DAY_US);
    if (!call_record_encode(&call, &tags, &out, &err))
        fuzz_fail(err.text);
    memcpy(head_bytes, out.data, out.len);
    head_len = out.len;
    buffer_free(&out);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    log_open("fuzz", LOG_LEVEL_ERROR + 1);
    const char *dir = getenv("TMPDIR"); /* tests/fuzz/run gives one in memory, and removes it */
    (void)snprintf(home, sizeof home, "%s/spend-fuzz-XXXXXX", dir != NULL ? dir : "/tmp");
    head_make();
    assert(mkdtemp(home) != NULL);
    return atexit(home_remove);
}

/* Of the input's own bytes, over and over up to len; or a true head. */
static struct strview payload_take(struct strview *in, char *room, size_t size)
{
    unsigned how = fuzz_byte(in);
    if (how % 4 == 3)
        return (struct strview){head_bytes, head_len};
    struct strview text = fuzz_text(in, fuzz_byte(in));
    size_t len = how % 4 == 2 ? fuzz_word(in) % size : text.len;
    memset(room, 'x', len);
    for (size_t at = 0; text.len > 0 && at + text.len <= len; at += text.len)
        memcpy(room + at, text.ptr, text.len);
    return (struct strview){room, len};
}

static void written_add(enum journal_kind kind, const struct journal_call *call, struct strview payload)
{
    assert(written_count < RECORDS_MAX);
    struct written *w = &written[written_count++];
    *w = (struct written){.kind = kind, .seq = call->seq, .call_id = call->call_id, .len = payload.len};
    w->payload = fuzz_copy(payload);
}

static struct journal_call *call_pick(struct journal *j, unsigned n)
{
    struct journal_call *call = journal_oldest(j);
    for (size_t i = journal_undelivered(j) == 0 ? 0 : n % journal_undelivered(j); i > 0; i--)
        call = call->newer;
    return call;
}

static void op_begin(struct journal *j, struct strview *in)
{
    static char room[16 << 10];
    struct err err = {0};
    struct journal_call *call = NULL;
    struct strview payload = payload_take(in, room, sizeof room);
    struct uuid id = uuid_v7(DAY_US + (int64_t)written_count);
    if (journal_begin(j, &id, payload, &call, &err))
        written_add(JOURNAL_OPEN, call, payload);
    else
        assert(err.code == ERR_FULL);
}

static void op_finish(struct journal_call *call, struct strview *in)
{
    static char room[16 << 10];
    struct err err = {0};
    struct strview payload = payload_take(in, room, sizeof room);
    if (call->finished || call->left)
        return;
    if (!journal_finish(call, payload, &err))
        fuzz_fail(err.text);
    written_add(JOURNAL_FINISHED, call, payload);
}

/* A seq may be finished twice: damage took the first. */
static bool is_written(const struct journal_record *r)
{
    for (size_t i = 0; i < written_count; i++) {
        const struct written *w = &written[i];
        if (w->kind == r->kind && w->seq == r->seq && w->len == r->payload.len &&
            uuid_cmp(&w->call_id, &r->call_id) == 0 && memcmp(w->payload, r->payload.ptr, w->len) == 0)
            return true;
    }
    return false;
}

/* What is read was written. */
static void calls_check(struct journal *j)
{
    for (const struct journal_call *call = journal_oldest(j); call != NULL; call = call->newer) {
        struct journal_record record;
        journal_read(call, &record);
        assert(record.kind == (call->finished ? JOURNAL_FINISHED : JOURNAL_OPEN));
        assert(record.seq == call->seq && uuid_cmp(&record.call_id, &call->call_id) == 0 &&
               is_written(&record));
        assert(call->seq < journal_next_seq(j));
    }
}

/* Where each call's newest record stands. */
static void places_note(struct journal *j)
{
    for (size_t i = 0; i < written_count; i++)
        written[i].live = false;
    for (const struct journal_call *call = journal_oldest(j); call != NULL; call = call->newer)
        for (size_t i = 0; i < written_count; i++)
            if (written[i].seq == call->seq && (written[i].kind == JOURNAL_FINISHED) == call->finished) {
                written[i].live = true;
                written[i].segment = call->segment->number;
                written[i].offset = call->offset;
            }
}

/* A kill, and the next start: nothing was damaged, so all of it is there and no more. */
static struct journal *op_kill(struct journal *j, char name[UUID_TEXT_LEN + 1])
{
    struct journal_found found = {0};
    struct err err = {0};
    size_t undelivered = journal_undelivered(j);
    uint64_t next_seq = journal_next_seq(j);
    places_note(j);
    journal_free(j);
    if (!journal_open(&j, &options, name, true, &found, &err))
        fuzz_fail(err.text);
    assert(found.skipped == 0 && found.damaged == 0 && !found.cut && !journal_is_damaged(j));
    assert(journal_undelivered(j) == undelivered && journal_next_seq(j) == next_seq);
    assert(found.open + found.finished == undelivered);
    calls_check(j);
    return j;
}

static struct journal *script_run(struct strview *in, char name[UUID_TEXT_LEN + 1])
{
    struct journal *j = NULL;
    struct err err = {0};
    if (!journal_create(&j, &options, DAY_US, &err))
        fuzz_fail(err.text);
    memcpy(name, journal_instance(j), UUID_TEXT_LEN + 1);
    int kills = 0;
    for (int ops = 0; ops < OPS_MAX && in->len > 0; ops++) {
        unsigned op = fuzz_byte(in);
        struct journal_call *call = op % 8 < 3 ? NULL : call_pick(j, op / 8);
        if (op == 0xff)
            break;
        if (op % 8 < 3)
            op_begin(j, in);
        else if (op % 8 == 7)
            j = kills++ < KILLS_MAX ? op_kill(j, name) : j;
        else if (call != NULL && op % 8 < 5)
            op_finish(call, in);
        else if (call != NULL && op % 8 == 5)
            journal_delivered(call);
        else if (call != NULL)
            journal_progress(call, fuzz_word(in));
    }
    places_note(j);
    return j;
}

static void spot_add(uint64_t segment, size_t from, size_t to)
{
    assert(spot_count < SPOTS_MAX);
    spot[spot_count++] = (struct spot){segment, from, to};
}

/* One harm to one segment, if it is there. */
static void damage(const char *name, struct strview *in)
{
    char path[512];
    char file[SEGMENT_NAME_ROOM];
    char bytes[512] = {0};
    unsigned op = fuzz_byte(in);
    uint64_t number = 1 + op / 8 % 8;
    size_t at = (size_t)fuzz_word(in) * 2 % SEGMENT + fuzz_byte(in) % 2;
    segment_name(number, file);
    (void)snprintf(path, sizeof path, "%s/%s/%s", home, name, file);
    int fd = open(path, O_RDWR);
    if (fd < 0)
        return;
    size_t len = 1;
    if (op % 8 == 0) { /* the file ends here */
        len = SEGMENT;
        assert(ftruncate(fd, (off_t)at) == 0);
    } else if (op % 8 == 1) { /* it is gone */
        at = 0;
        len = SEGMENT;
        assert(unlink(path) == 0);
    } else if (op % 8 == 2) { /* a page that was never written */
        at = at / 512 * 512;
        len = sizeof bytes;
        (void)!pwrite(fd, bytes, len, (off_t)at);
    } else if (op % 8 == 3) { /* one bit */
        (void)!pread(fd, bytes, 1, (off_t)at);
        bytes[0] = (char)(bytes[0] ^ (1 << fuzz_byte(in) % 8));
        (void)!pwrite(fd, bytes, 1, (off_t)at);
    } else if (op % 8 < 6) { /* bytes of the input */
        struct strview text = fuzz_text(in, fuzz_byte(in));
        len = text.len;
        (void)!pwrite(fd, text.ptr, len, (off_t)at);
    } else { /* bytes of another place */
        ssize_t got = pread(fd, bytes, sizeof bytes, (off_t)(fuzz_word(in) & 0xfff8));
        len = got > 0 ? (size_t)got : 0;
        at = at & ~(size_t)7;
        (void)!pwrite(fd, bytes, len, (off_t)at);
    }
    (void)close(fd);
    spot_add(number, at, at + len);
}

static bool is_harmed(const struct written *w)
{
    for (size_t i = 0; i < spot_count; i++) {
        bool header = spot[i].from < SEGMENT_HEADER_BYTES;
        /* of a record that was copied whole the last eight bytes are under no checksum: they may be those of
         * the record behind it, which is then passed over */
        bool record = spot[i].from < w->offset + segment_record_size(w->len) && spot[i].to + 8 > w->offset;
        if (spot[i].segment == w->segment && (header || record))
            return true;
    }
    return false;
}

static const struct journal_call *call_of(struct journal *j, uint64_t seq)
{
    const struct journal_call *call = journal_oldest(j);
    while (call != NULL && call->seq != seq)
        call = call->newer;
    return call;
}

/* What no harm touched is there. */
static void survivors_check(struct journal *j)
{
    for (size_t i = 0; i < written_count; i++) {
        if (!written[i].live || is_harmed(&written[i]))
            continue;
        const struct journal_call *call = call_of(j, written[i].seq);
        assert(call != NULL && call->finished == (written[i].kind == JOURNAL_FINISHED));
    }
}

/* All is delivered, and the directory goes, or is kept aside. */
static void end(struct journal *j)
{
    while (journal_oldest(j) != NULL)
        journal_delivered(journal_oldest(j));
    assert(journal_oldest_open_seq(j) == journal_next_seq(j));
    if (journal_is_damaged(j))
        journal_set_aside(j);
    else
        journal_remove(j);
}

/* Open calls are finished; killed once more, the same bytes are found. */
static void recover(struct journal *j, const char *name)
{
    struct journal_found found = {0};
    struct err err = {0};
    recovery_finish_open(j, true);
    for (struct journal_call *call = journal_oldest(j); call != NULL; call = call->newer) {
        struct journal_record record;
        journal_read(call, &record);
        if (record.kind == JOURNAL_FINISHED && !is_written(&record))
            written_add(JOURNAL_FINISHED, call, record.payload);
    }
    size_t undelivered = journal_undelivered(j);
    bool damaged = journal_is_damaged(j);
    journal_free(j);
    j = NULL;
    if (!journal_open(&j, &options, name, false, &found, &err))
        fuzz_fail(err.text);
    assert(journal_undelivered(j) == undelivered && (!damaged || journal_is_damaged(j)));
    calls_check(j);
    end(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct strview in = {(const char *)data, size};
    char name[UUID_TEXT_LEN + 1];
    uint8_t hash[SHA256_LEN];
    struct journal_found found = {0};
    struct err err = {0};
    sha256_of(in, hash);
    memcpy(&chance, hash, sizeof chance);
    written_count = spot_count = 0;
    struct journal *j = op_kill(script_run(&in, name), name);
    places_note(j);
    journal_free(j);
    j = NULL;
    while (in.len > 0 && spot_count < SPOTS_MAX)
        damage(name, &in);
    if (journal_open(&j, &options, name, false, &found, &err)) {
        calls_check(j);
        survivors_check(j);
        recover(j, name);
    } else {
        assert(err.code == ERR_STATE && spot_count > 0); /* nothing is left of it */
    }
    for (size_t i = 0; i < written_count; i++)
        free(written[i].payload);
    home_clear();
    return 0;
}
