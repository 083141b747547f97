/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_locks.c - byte-range locks and whole-file locks of several processes on each client (I5).
 *
 * Of each owner it is known, unit by unit, what it may hold: what it asked for may be held from the
 * call on, and is held for certain from the answer until something else is asked for, or its
 * session may have ended.
 *
 *     granted     no other holds for certain what is in the way
 *     refused     somebody may have held what was in the way
 *     getlk       names what somebody may have held; nobody, if nobody held it all the time
 *     -EDEADLK    somebody waited for what the one who asks may hold
 *
 * A wait ends: by an interrupt, if by nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/assert.h"
#include "common/base/err.h"
#include "tests/sim/cluster/load.h"

#define FILES      3u
#define UNITS      6u /* of a file: the last one reaches to the end of all */
#define UNIT_BYTES 100u
#define WHOLE      UNITS /* flock: in a unit of its own */
#define LOOK_NS    SIM_S /* between looks of one who waits at whether it is to go */
#define SOON_NS    (3 * SIM_S)

enum owner_kind { OWNER_PROCESS, OWNER_OPEN_FILE, OWNER_KINDS };

struct life { /* a session */
    struct life *next;
    struct hf_session_id session;
    uint64_t gone_ns; /* by then the leader did not know it any more; 0: never seen */
};

struct held {
    uint32_t may;        /* bits of F_RDLCK, F_WRLCK, F_UNLCK */
    bool dropped;        /* a release, of which there is no answer, is on its way */
    uint64_t changed_ns; /* the above */
};

struct ask {
    uint32_t file, first, last, type; /* units */
    bool wait;
    uint64_t begun_ns;
};

struct owner {
    struct owner *next;
    struct life *life;
    uint32_t number; /* as a process */
    enum owner_kind kind;
    struct held held[FILES][UNITS + 1];
    struct ask ask; /* the last one that waited */
    bool waits;
    uint64_t waited_ns; /* when that ended */
    /* of its life */
    struct actor *actor;
    struct hf_ino inos[FILES];
    struct hf_fs_file *files[FILES];
    struct hf_timer timer;
    uint64_t patience_ns;
    bool interrupted;
};

struct locks {
    struct life *lives;
    struct owner *owners;
    uint32_t count;
};

struct locks *locks_new(void)
{
    struct locks *locks = calloc(1, sizeof(*locks));

    HF_ASSERT(locks != NULL);
    return locks;
}

/* What is known */

static uint32_t bit(uint32_t type)
{
    return 1u << type;
}

/* Types of others that are in the way of @type. */
static uint32_t in_the_way_of(uint32_t type)
{
    return type == F_WRLCK ? bit(F_RDLCK) | bit(F_WRLCK) : bit(F_WRLCK);
}

static void may_hold(struct actor *a, struct held *held, uint32_t may)
{
    if (held->may != may) {
        held->may = may;
        held->changed_ns = sim_now(a->s);
    }
}

static bool is_gone(const struct owner *o, uint64_t since_ns)
{
    return o->life->gone_ns && o->life->gone_ns <= since_ns;
}

static void notice_the_gone(struct sim *s)
{
    for (struct life *life = s->load->locks->lives; life; life = life->next) {
        if (!life->gone_ns && !sim_session_known(s, life->session)) {
            life->gone_ns = sim_now(s);
        }
    }
}

/* Does it hold, for certain and since @since_ns, what is in the way of @ask? */
static bool stands_in_the_way(struct sim *s, const struct owner *o, const struct ask *ask,
                              uint64_t since_ns)
{
    uint32_t others = in_the_way_of(ask->type);

    for (uint32_t u = ask->first; u <= ask->last; u++) {
        const struct held *held = &o->held[ask->file][u];

        if (!(held->may & ~others) && held->changed_ns <= since_ns) {
            return sim_leader(s) && sim_session_known(s, o->life->session);
        }
    }
    return false;
}

/* May it have held, at any time since the call began, what is in the way? */
static bool may_stand_in_the_way(const struct owner *o, const struct ask *ask)
{
    uint32_t others = in_the_way_of(ask->type);

    for (uint32_t u = ask->first; u <= ask->last && !is_gone(o, ask->begun_ns); u++) {
        const struct held *held = &o->held[ask->file][u];

        if ((held->may & others) || held->changed_ns >= ask->begun_ns) {
            return true;
        }
    }
    return false;
}

static const char *ask_str(const struct ask *ask, char ret[64])
{
    static const char *const types[] = {"shared", "exclusive", "unlock"};

    if (ask->first == WHOLE) {
        (void)snprintf(ret, 64, "%s of file %u", types[ask->type], ask->file);
    } else {
        (void)snprintf(ret, 64, "%s of %u..%u in file %u", types[ask->type], ask->first, ask->last,
                       ask->file);
    }
    return ret;
}

static void trace_ask(struct actor *a, const struct owner *o, const char *what,
                      const struct ask *ask, int err)
{
    char text[64];

    sim_trace(a->s, "client %u: process %u: %s %s: %s", a->client->number, o->number, what,
              ask_str(ask, text), hf_err_name(err));
}

/* What an answer tells */

static void check_granted(struct actor *a, const struct owner *me, const struct ask *ask)
{
    struct sim *s = a->s;
    char text[64];

    for (const struct owner *o = s->load->locks->owners; o; o = o->next) {
        if (o != me && stands_in_the_way(s, o, ask, sim_now(s)) &&
            sim_session_known(s, me->life->session)) {
            sim_wrong(s, "I5", "process %u was given %s, of which process %u holds some",
                      me->number, ask_str(ask, text), o->number);
            return;
        }
    }
}

static void check_refused(struct actor *a, const struct owner *me, const struct ask *ask)
{
    char text[64];

    for (const struct owner *o = a->s->load->locks->owners; o; o = o->next) {
        if (o != me && may_stand_in_the_way(o, ask)) {
            return;
        }
    }
    sim_wrong(a->s, "I5", "process %u was refused %s, of which nobody holds any", me->number,
              ask_str(ask, text));
}

/* Each ring ends with somebody who waits for the one that closed it. */
static void check_deadlock(struct actor *a, const struct owner *me, const struct ask *ask)
{
    char text[64];

    for (const struct owner *o = a->s->load->locks->owners; o && ask->first != WHOLE; o = o->next) {
        if (o != me && o->ask.first != WHOLE && !is_gone(o, ask->begun_ns) &&
            (o->waits || o->waited_ns >= ask->begun_ns) && may_stand_in_the_way(me, &o->ask)) {
            return;
        }
    }
    sim_wrong(a->s, "I5", "process %u is told of a deadlock for %s, and nobody waits for it",
              me->number, ask_str(ask, text));
}

/* What getlk names: a lock that its holder may have, and all of it. */
static bool may_be_named(const struct owner *o, const struct ask *ask,
                         const struct hf_fs_lock *lock)
{
    uint64_t first = lock->start / UNIT_BYTES;
    uint64_t last = lock->length ? (lock->start + lock->length - 1) / UNIT_BYTES : UNITS - 1;
    bool known = true;

    if (lock->start % UNIT_BYTES || lock->length % UNIT_BYTES || last >= UNITS ||
        last < ask->first || first > ask->last || is_gone(o, ask->begun_ns) ||
        !(bit(lock->type) & in_the_way_of(ask->type))) {
        return false;
    }
    for (uint64_t u = 0; u < UNITS; u++) {
        const struct held *held = &o->held[ask->file][u];
        bool inside = u >= first && u <= last;

        known = known && held->changed_ns < ask->begun_ns;
        if (inside && !(held->may & bit(lock->type)) && held->changed_ns < ask->begun_ns) {
            return false;
        }
    }
    return !known || ((first == 0 || o->held[ask->file][first - 1].may != bit(lock->type)) &&
                      (last == UNITS - 1 || o->held[ask->file][last + 1].may != bit(lock->type)));
}

static void check_getlk(struct actor *a, const struct owner *me, const struct ask *ask)
{
    const struct hf_fs_lock *lock = &a->lock;
    struct sim *s = a->s;
    char text[64];

    for (const struct owner *o = s->load->locks->owners; o; o = o->next) {
        if (o == me) {
            continue;
        }
        if (lock->type == F_UNLCK) {
            if (stands_in_the_way(s, o, ask, ask->begun_ns)) {
                sim_wrong(s, "I5",
                          "process %u is told that nothing is in the way of %s; process %u "
                          "is",
                          me->number, ask_str(ask, text), o->number);
                return;
            }
        } else if (o->number == lock->pid && may_be_named(o, ask, lock)) {
            return;
        }
    }
    if (lock->type != F_UNLCK) {
        sim_wrong(s, "I5",
                  "process %u is told that %" PRIu64 "+%" PRIu64 " of process %u is in the way of "
                  "%s: it cannot be",
                  me->number, lock->start, lock->length, lock->pid, ask_str(ask, text));
    }
}

/* Asking */

static struct hf_fs_lock lock_of(const struct owner *o, const struct ask *ask)
{
    struct hf_fs_lock lock = {.owner = o->number, .type = ask->type, .pid = o->number};

    if (ask->first == WHOLE) {
        lock.flock = true;
    } else {
        lock.through = o->files[ask->file];
        lock.start = (uint64_t)ask->first * UNIT_BYTES;
        lock.length =
            ask->last == UNITS - 1 ? 0 : (uint64_t)(ask->last - ask->first + 1) * UNIT_BYTES;
    }
    return lock;
}

static void look_at_the_clock(void *ctx)
{
    struct owner *o = ctx;
    struct actor *a = o->actor;

    if (!a->pending) {
        return;
    }
    if (sim_now(a->s) >= o->patience_ns || !load_goes_on(a)) {
        o->interrupted = true;
        hf_fs_interrupt(&a->req);
    } else {
        hf_timer_arm(&o->timer, LOOK_NS);
    }
}

static uint64_t draw_patience(struct sim *s)
{
    uint64_t draw = hf_sim_rng_below(&s->rng, 100);

    return draw < 70   ? hf_sim_rng_below(&s->rng, 2 * SIM_S)
           : draw < 95 ? hf_sim_rng_below(&s->rng, 10 * SIM_S)
                       : 30 * SIM_S;
}

/* The answer to @ask came: whatever was sent before it has happened. */
static void settle(struct actor *a, struct owner *o)
{
    for (uint32_t f = 0; f < FILES; f++) {
        for (uint32_t u = 0; u <= UNITS; u++) {
            struct held *held = &o->held[f][u];

            if (held->dropped) {
                held->dropped = false;
                may_hold(a, held, bit(F_UNLCK));
            }
        }
    }
}

static void check_answer(struct actor *a, const struct owner *o, const struct ask *ask, int err)
{
    char text[64];

    if (err == 0 && ask->type != F_UNLCK) {
        a->s->counts.locks++;
        check_granted(a, o, ask);
    } else if (err == -EAGAIN && ask->type != F_UNLCK && !ask->wait) {
        check_refused(a, o, ask);
    } else if (err == -EDEADLK && ask->wait) {
        a->s->counts.deadlocks++;
        check_deadlock(a, o, ask);
    } else if (err == -EINTR && o->interrupted) {
        a->s->counts.interrupts++;
    } else if (err) {
        sim_fail(a->s, "I5", "process %u: %s: %s", o->number, ask_str(ask, text), hf_err_name(err));
    }
}

/* Other errors than those of a lost session are answers. */
static int set_lock(struct actor *a, struct owner *o, struct ask ask)
{
    struct hf_fs_lock lock = lock_of(o, &ask);
    uint32_t before[UNITS + 1];
    /* flock gives up what it has before it gets, or waits for, another one */
    uint32_t between = ask.first == WHOLE ? bit(F_UNLCK) : 0;
    int err;

    notice_the_gone(a->s);
    ask.begun_ns = sim_now(a->s);
    for (uint32_t u = ask.first; u <= ask.last; u++) {
        struct held *held = &o->held[ask.file][u];

        before[u] = held->dropped || between ? bit(F_UNLCK) : held->may;
        may_hold(a, held, held->may | bit(ask.type) | between);
    }
    if (ask.wait) {
        o->ask = ask;
        o->waits = true;
        o->interrupted = false;
        hf_timer_arm(&o->timer, SIM_MS + hf_sim_rng_below(&a->s->rng, LOOK_NS));
        o->patience_ns = sim_now(a->s) + draw_patience(a->s);
    }
    err = DO(a, hf_fs_setlk(a->fs, o->inos[ask.file], &lock, ask.wait, &a->req));
    hf_timer_disarm(&o->timer);
    trace_ask(a, o, ask.wait ? "waits for" : "sets", &ask, err);
    if (load_is_lost(a, err)) {
        return err;
    }
    settle(a, o);
    for (uint32_t u = ask.first; u <= ask.last; u++) {
        may_hold(a, &o->held[ask.file][u], err ? before[u] : bit(ask.type));
    }
    check_answer(a, o, &ask, err);
    if (err == -EINTR) { /* the leader hears of it before the next look */
        err = DO(a, hf_fs_getlk(a->fs, o->inos[ask.file], &lock, &a->req));
        if (err) {
            return err;
        }
    }
    o->waited_ns = o->waits ? sim_now(a->s) : o->waited_ns;
    o->waits = false;
    return a->s->failed ? -ECANCELED : 0;
}

static int test_lock(struct actor *a, struct owner *o, struct ask ask)
{
    struct hf_fs_lock lock = lock_of(o, &ask);
    int err;

    notice_the_gone(a->s);
    ask.begun_ns = sim_now(a->s);
    err = DO(a, hf_fs_getlk(a->fs, o->inos[ask.file], &lock, &a->req));
    trace_ask(a, o, "asks about", &ask, err);
    if (!err) {
        check_getlk(a, o, &ask);
    } else if (!load_is_lost(a, err)) {
        sim_fail(a->s, "I5", "process %u: getlk: %s", o->number, hf_err_name(err));
    }
    return a->s->failed ? -ECANCELED : err;
}

/* Its locks of the file go, some time soon: nobody says when. */
static void drop(struct actor *a, struct owner *o, uint32_t file, uint32_t first, uint32_t last)
{
    for (uint32_t u = first; u <= last; u++) {
        struct held *held = &o->held[file][u];

        if (held->may != bit(F_UNLCK)) {
            held->dropped = true;
            may_hold(a, held, held->may | bit(F_UNLCK));
        }
    }
}

/* As the kernel does it: FLUSH by the process, then RELEASE. An open file's own locks go with it.
 */
static int close_file(struct actor *a, struct owner *o, uint32_t file)
{
    struct hf_fs_file *of = o->files[file];
    int err = 0;

    drop(a, o, file, 0, UNITS - 1);
    if (o->kind == OWNER_PROCESS) {
        err = DO(a, hf_fs_flush(of, o->number, &a->req));
    }
    drop(a, o, file, WHOLE, WHOLE);
    hf_fs_unflock(a->fs, o->inos[file], o->number);
    hf_fs_release(of);
    o->files[file] = NULL;
    sim_trace(a->s, "client %u: process %u closes file %u: %s", a->client->number, o->number, file,
              hf_err_name(err));
    return err;
}

static int open_file(struct actor *a, struct hf_ino top, const char *name, struct hf_ino *ret_ino,
                     struct hf_fs_file **ret)
{
    int err = DO(a, hf_fs_create(a->fs, top, name, S_IFREG | 0644, O_RDWR | O_CREAT, &a->req));

    *ret_ino = a->attr.ino;
    if (err == -ESTALE || err == -EEXIST) {
        err = DO(a, hf_fs_lookup(a->fs, top, name, &a->req));
        *ret_ino = a->attr.ino;
        err = err ? err : DO(a, hf_fs_open(a->fs, *ret_ino, O_RDWR, &a->req));
    }
    *ret = a->file;
    return err;
}

static struct ask draw_ask(struct sim *s)
{
    uint64_t draw = hf_sim_rng_below(&s->rng, 100);
    struct ask ask = {.file = (uint32_t)hf_sim_rng_below(&s->rng, FILES)};
    uint32_t a = (uint32_t)hf_sim_rng_below(&s->rng, UNITS);
    uint32_t b = (uint32_t)hf_sim_rng_below(&s->rng, UNITS);

    ask.first = a < b ? a : b;
    ask.last = a < b ? b : a;
    if (hf_sim_rng_below(&s->rng, 4) == 0) {
        ask.first = ask.last = WHOLE;
    }
    ask.type = draw < 30 ? F_RDLCK : draw < 65 ? F_WRLCK : F_UNLCK;
    ask.wait = ask.type != F_UNLCK && draw % 2 == 0;
    return ask;
}

static int step(struct actor *a, struct owner *o, struct hf_ino top)
{
    uint64_t draw = hf_sim_rng_below(&a->s->rng, 100);
    struct ask ask = draw_ask(a->s);
    char name[8];

    if (!o->files[ask.file]) {
        (void)snprintf(name, sizeof(name), "l%u", ask.file);
        return open_file(a, top, name, &o->inos[ask.file], &o->files[ask.file]);
    }
    if (draw < 6) {
        return close_file(a, o, ask.file);
    }
    if (draw < 26 && ask.first != WHOLE) {
        ask.type = ask.type == F_UNLCK ? F_WRLCK : ask.type;
        return test_lock(a, o, ask);
    }
    return set_lock(a, o, ask);
}

static struct life *life_of(struct locks *locks, struct hf_session_id session)
{
    struct life *life = locks->lives;

    while (life && life->session.v != session.v) {
        life = life->next;
    }
    if (!life) {
        life = calloc(1, sizeof(*life));
        HF_ASSERT(life != NULL);
        *life = (struct life){.session = session, .next = locks->lives};
        locks->lives = life;
    }
    return life;
}

static struct owner *owner_new(struct actor *a)
{
    struct locks *locks = a->s->load->locks;
    struct owner *o = calloc(1, sizeof(*o));

    HF_ASSERT(o != NULL);
    o->life = life_of(locks, hf_session_id(a->client->session));
    o->number = ++locks->count;
    o->kind = (enum owner_kind)(o->number % OWNER_KINDS);
    o->actor = a;
    for (uint32_t f = 0; f < FILES; f++) {
        for (uint32_t u = 0; u <= UNITS; u++) {
            o->held[f][u].may = bit(F_UNLCK);
        }
    }
    hf_timer_init(&o->timer, a->client->env, look_at_the_clock, o);
    o->next = locks->owners;
    locks->owners = o;
    return o;
}

void locks_program(struct actor *a, void *arg)
{
    struct owner *o = owner_new(a);
    struct hf_ino top;
    int err = load_dir(a, (struct hf_ino){HF_INO_ROOT}, "locks", &top);

    (void)arg;
    while (!err && load_goes_on(a)) {
        err = step(a, o, top);
        if (err && !load_is_lost(a, err)) {
            sim_fail(a->s, "I5", "process %u: %s", o->number, hf_err_name(err));
        }
        actor_sleep(a, hf_sim_rng_below(&a->s->rng, 800 * SIM_MS));
    }
    for (uint32_t f = 0; f < FILES; f++) { /* an unmount closes them */
        drop(a, o, f, 0, WHOLE);
    }
    hf_timer_fini(&o->timer);
}

/*
 * The last look, at rest: who waits is woken soon, and who closes a ring is told soon.
 */

#define RING 3u

struct process {
    struct sim_client *client;
    struct hf_ino ino;
    struct hf_fs_lock lock;
    bool wait, over;
    int err;
    struct actor *actor;
};

static void set_program(struct actor *a, void *arg)
{
    struct process *p = arg;

    p->actor = a;
    p->err = DO(a, hf_fs_setlk(a->fs, p->ino, &p->lock, p->wait, &a->req));
    p->over = true;
}

static void interrupt_program(struct actor *a, void *arg)
{
    (void)a;
    hf_fs_interrupt(&((struct process *)arg)->actor->req);
}

static void begin(struct process *p, uint32_t type, uint32_t unit, uint32_t count, bool wait)
{
    p->lock.type = type;
    p->lock.start = (uint64_t)unit * UNIT_BYTES;
    p->lock.length = (uint64_t)count * UNIT_BYTES;
    p->wait = wait;
    p->over = false;
    (void)actor_new(p->client, set_program, p);
}

static bool ends_with(struct actor *a, const struct process *p, int err, const char *what)
{
    struct sim *s = a->s;

    for (uint64_t end_ns = sim_now(s) + SOON_NS; !p->over && sim_now(s) < end_ns;) {
        actor_sleep(a, 20 * SIM_MS);
    }
    if (!p->over) {
        sim_fail(s, "alive", "at rest, process %u is not answered: %s", p->lock.pid, what);
    } else if (p->err != err) {
        sim_fail(s, "I5", "at rest, process %u: %s, not %s: %s", p->lock.pid, hf_err_name(p->err),
                 hf_err_name(err), what);
    }
    return !s->failed;
}

static bool takes(struct actor *a, struct process *p, uint32_t unit)
{
    begin(p, F_WRLCK, unit, 1, false);
    return ends_with(a, p, 0, "what it asks for is free");
}

static bool lets_go(struct actor *a, struct process *p)
{
    begin(p, F_UNLCK, 0, UNITS, false);
    return ends_with(a, p, 0, "it unlocks");
}

/* Until the leader knows that it waits. */
static void waits(struct actor *a, struct process *p, uint32_t unit)
{
    begin(p, F_WRLCK, unit, 1, true);
    actor_sleep(a, 200 * SIM_MS);
}

/* 0 waits for 1, 1 for 2; then 2 asks for what 0 has. */
static bool close_a_ring(struct actor *a, struct process ps[RING])
{
    for (uint32_t i = 0; i < RING; i++) {
        if (!takes(a, &ps[i], i)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < RING; i++) {
        waits(a, &ps[i], (i + 1) % RING);
    }
    if (!ends_with(a, &ps[RING - 1], -EDEADLK, "it closes a ring")) {
        return false;
    }
    for (uint32_t i = RING - 1; i > 0; i--) {
        if (!lets_go(a, &ps[i]) || !ends_with(a, &ps[i - 1], 0, "what it waits for is free")) {
            return false;
        }
    }
    return lets_go(a, &ps[0]);
}

/* Who does not wait any more is of no ring. */
static bool interrupt_one(struct actor *a, struct process ps[RING])
{
    if (!takes(a, &ps[0], 0) || !takes(a, &ps[1], 1)) {
        return false;
    }
    waits(a, &ps[0], 1);
    (void)actor_new(ps[0].client, interrupt_program, &ps[0]);
    if (!ends_with(a, &ps[0], -EINTR, "it is interrupted")) {
        return false;
    }
    actor_sleep(a, 200 * SIM_MS); /* the leader hears of it */
    waits(a, &ps[1], 0);
    return lets_go(a, &ps[0]) &&
           ends_with(a, &ps[1], 0, "what it waits for is free, and nobody waits for it") &&
           lets_go(a, &ps[1]);
}

static void check_nobody_waits(struct sim *s)
{
    for (const struct owner *o = s->load->locks->owners; o; o = o->next) {
        for (uint32_t i = 0; i < s->client_count && o->waits; i++) {
            const struct sim_client *c = &s->clients[i];

            if (c->state == CLIENT_SERVING && hf_session_live(c->session) &&
                hf_session_id(c->session).v == o->life->session.v) {
                sim_fail(s, "alive", "process %u waits for ever", o->number);
            }
        }
    }
}

bool locks_final(struct actor *a)
{
    struct sim *s = a->s;
    struct process *ps = calloc(RING, sizeof(*ps));
    struct hf_fs_file *file;
    struct hf_ino top, ino;
    int err;

    HF_ASSERT(ps != NULL);
    check_nobody_waits(s);
    err = load_dir(a, (struct hf_ino){HF_INO_ROOT}, "locks", &top);
    err = err ? err : open_file(a, top, "rest", &ino, &file);
    if (err) {
        sim_fail(s, "I5", "at rest, a file to lock cannot be opened: %s", hf_err_name(err));
        return false;
    }
    for (uint32_t i = 0; i < RING; i++) {
        struct sim_client *c = &s->clients[i % s->client_count];

        ps[i].client = c->state == CLIENT_SERVING ? c : a->client;
        ps[i].ino = ino;
        ps[i].lock = (struct hf_fs_lock){.owner = i, .pid = i};
    }
    if (!close_a_ring(a, ps) || !interrupt_one(a, ps)) {
        return false; /* who waits still refers to them */
    }
    hf_fs_release(file);
    free(ps);
    return true;
}
