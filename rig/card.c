/* A sound card that fails when it is told to: an ALSA PCM of type `card` (rig/card.py).

   Its clock is the machine's. It takes and gives samples at its rate whether or not a program keeps
   up, so a program that does not runs it dry, or over, as with hardware. What is commanded stands in
   a file that is mapped here and in the test. */

#include <alsa/asoundlib.h>
#include <alsa/pcm_external.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum fault { NONE, STALLED, ENDED, UNPLUGGED };

/* In the order of rig/card.py. */
struct control {
    int32_t fault;      /* enum fault */
    int32_t refusal;    /* errno on opening, 0: none */
    int32_t rate;       /* the only one it has, 0: any */
    int32_t xruns;      /* ever commanded */
    int32_t opened;     /* ever */
    int32_t level;      /* of the samples that a microphone gives */
    int32_t mapped;     /* its buffer can be mapped, as that of hardware; a sound server's cannot */
    int32_t held;       /* openings up to this one stand still and cannot be closed */
};

struct card {
    snd_pcm_ioplug_t io;
    volatile struct control *control;
    int file;           /* where what is played goes, or -1 */
    int timer;
    int32_t number;     /* of this opening */
    int running;
    int broken;         /* ran dry or over, until it is prepared anew */
    int32_t xruns;      /* of control->xruns, seen */
    struct timespec begun;
    int64_t stood;      /* frames that a stall has cost */
    int64_t moved;      /* frames by program and card, since prepare */
    int64_t given;
    int64_t frozen;
};

static int64_t frames_since(const struct card *card)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double s = (double)(now.tv_sec - card->begun.tv_sec) + (now.tv_nsec - card->begun.tv_nsec) / 1e9;
    return (int64_t)(s * card->io.rate);
}

static int fault_of(const struct card *card)
{
    return card->number <= card->control->held ? STALLED : card->control->fault;
}

/* Return how many frames the hardware has played or captured, or a negative errno. */
static int64_t hardware(struct card *card)
{
    int fault = fault_of(card);
    if (fault == ENDED || fault == UNPLUGGED)
        return -ENODEV;
    if (card->broken)
        return -EPIPE;
    if (!card->running)
        return card->moved;
    int64_t clock = frames_since(card);
    if (fault == STALLED)
        card->stood = clock - card->moved;
    card->moved = clock - card->stood;
    int64_t most = card->io.stream == SND_PCM_STREAM_PLAYBACK ? 0 : (int64_t)card->io.buffer_size;
    card->broken = card->control->xruns != card->xruns || card->moved - card->given > most;
    card->xruns = card->control->xruns;
    return card->broken ? -EPIPE : card->moved;
}

static int start(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    if (fault_of(card) >= ENDED)
        return -ENODEV;
    clock_gettime(CLOCK_MONOTONIC, &card->begun);
    card->stood = 0;
    card->running = 1;
    return 0;
}

static int stop(snd_pcm_ioplug_t *io)
{
    ((struct card *)io->private_data)->running = 0;
    return 0;
}

static snd_pcm_sframes_t pointer(snd_pcm_ioplug_t *io)
{
    int64_t at = hardware(io->private_data);
    return at < 0 ? at : at % (int64_t)io->buffer_size;
}

static snd_pcm_sframes_t transfer(snd_pcm_ioplug_t *io, const snd_pcm_channel_area_t *areas,
                                  snd_pcm_uframes_t offset, snd_pcm_uframes_t size)
{
    struct card *card = io->private_data;
    int16_t *samples = (int16_t *)((char *)areas->addr + (areas->first + areas->step * offset) / 8);
    size_t count = size * io->channels;
    if (fault_of(card) >= ENDED)
        return -ENODEV;
    if (io->stream == SND_PCM_STREAM_CAPTURE)
        for (size_t i = 0; i < count; i++) /* a square of 500 Hz at 16 kHz */
            samples[i] = (int16_t)(i / io->channels / 16 % 2 ? -card->control->level
                                                              : card->control->level);
    else if (card->file >= 0 && write(card->file, samples, 2 * count) < 0)
        return -EIO;
    card->given += (int64_t)size;
    return (snd_pcm_sframes_t)size;
}

static int prepare(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    if (fault_of(card) >= ENDED)
        return -ENODEV;
    card->running = card->broken = 0;
    card->moved = card->given = 0;
    return 0;
}

static int hw_params(snd_pcm_ioplug_t *io, snd_pcm_hw_params_t *params)
{
    (void)params;
    struct card *card = io->private_data;
    long ns = (long)(1e9 * io->period_size / io->rate / 4);
    struct itimerspec every = { { 0, ns }, { 0, ns } };
    return timerfd_settime(card->timer, 0, &every, NULL) < 0 ? -errno : 0;
}

static int revents(snd_pcm_ioplug_t *io, struct pollfd *fds, unsigned int count,
                   unsigned short *told)
{
    struct card *card = io->private_data;
    int capturing = io->stream == SND_PCM_STREAM_CAPTURE;
    uint64_t ticks;
    (void)count;
    *told = 0;
    if (!(fds[0].revents & POLLIN))
        return 0;
    if (read(card->timer, &ticks, sizeof ticks) < 0 && errno != EAGAIN)
        return -errno;
    if (fault_of(card) == UNPLUGGED) {
        /* What the kernel tells of a card whose USB plug was pulled; nothing else ever comes. */
        snd_pcm_ioplug_set_state(io, SND_PCM_STATE_DISCONNECTED);
        *told = POLLERR | POLLHUP;
        return 0;
    }
    int64_t at = hardware(card);
    if (fault_of(card) == STALLED)
        return 0;
    int64_t waiting = capturing ? at - card->given : card->given - at;
    int64_t room = capturing ? waiting : (int64_t)io->buffer_size - waiting;
    if (at < 0)
        *told = POLLERR | (capturing ? POLLIN : POLLOUT);
    else if (room >= (int64_t)io->period_size)
        *told = capturing ? POLLIN : POLLOUT;
    return 0;
}

static int delay(snd_pcm_ioplug_t *io, snd_pcm_sframes_t *frames)
{
    struct card *card = io->private_data;
    if (fault_of(card) >= ENDED)
        return -ENODEV;
    int64_t at = card->running ? frames_since(card) - card->stood : card->moved;
    *frames = io->stream == SND_PCM_STREAM_PLAYBACK ? card->given - at : at - card->given;
    return 0;
}

static int close_card(snd_pcm_ioplug_t *io)
{
    struct card *card = io->private_data;
    while (card->number <= card->control->held)
        usleep(10000);
    munmap((void *)card->control, sizeof *card->control);
    close(card->timer);
    if (card->file >= 0)
        close(card->file);
    free(card);
    return 0;
}

static const snd_pcm_ioplug_callback_t callbacks = {
    .start = start, .stop = stop, .pointer = pointer, .transfer = transfer, .prepare = prepare,
    .hw_params = hw_params, .poll_revents = revents, .delay = delay, .close = close_card,
};

static int constrain(snd_pcm_ioplug_t *io, unsigned int rate, int mapped)
{
    static const unsigned int access[] = { SND_PCM_ACCESS_RW_INTERLEAVED,
                                           SND_PCM_ACCESS_MMAP_INTERLEAVED };
    static const unsigned int format[] = { SND_PCM_FORMAT_S16_LE };
    int bad = snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_ACCESS, mapped ? 2 : 1, access);
    bad |= snd_pcm_ioplug_set_param_list(io, SND_PCM_IOPLUG_HW_FORMAT, 1, format);
    bad |= snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_CHANNELS, 1, 2);
    bad |= snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_RATE, rate ? rate : 8000,
                                           rate ? rate : 96000);
    bad |= snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIOD_BYTES, 128, 1 << 18);
    bad |= snd_pcm_ioplug_set_param_minmax(io, SND_PCM_IOPLUG_HW_PERIODS, 2, 16);
    return bad ? -EINVAL : 0;
}

static int text(snd_config_t *conf, const char *key, const char **value)
{
    snd_config_t *found;
    if (snd_config_search(conf, key, &found) < 0)
        return -EINVAL;
    return snd_config_get_string(found, value);
}

SND_PCM_PLUGIN_DEFINE_FUNC(card)
{
    const char *path, *played;
    (void)root;
    if (text(conf, "control", &path) < 0 || text(conf, "played", &played) < 0)
        return -EINVAL;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    volatile struct control *control =
        mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (control == MAP_FAILED)
        return -errno;
    int refusal = control->refusal ? control->refusal : control->fault >= ENDED ? ENODEV : 0;
    struct card *card = refusal ? NULL : calloc(1, sizeof *card);
    if (!card) {
        munmap((void *)control, sizeof *control);
        return refusal ? -refusal : -ENOMEM;
    }
    card->number = ++control->opened;
    card->control = control;
    card->xruns = control->xruns;
    card->file = stream == SND_PCM_STREAM_PLAYBACK
                     ? open(played, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    card->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    card->io.version = SND_PCM_IOPLUG_VERSION;
    card->io.name = "a card that fails when told to";
    card->io.flags = SND_PCM_IOPLUG_FLAG_MONOTONIC;
    card->io.poll_fd = card->timer;
    card->io.poll_events = POLLIN;
    card->io.callback = &callbacks;
    card->io.private_data = card;
    int status = snd_pcm_ioplug_create(&card->io, name, stream, mode);
    if (status < 0) {
        close_card(&card->io);
        return status;
    }
    status = constrain(&card->io, (unsigned int)control->rate, control->mapped);
    if (status < 0) {
        snd_pcm_ioplug_delete(&card->io);
        return status;
    }
    *pcmp = card->io.pcm;
    return 0;
}
SND_PCM_PLUGIN_SYMBOL(card);
