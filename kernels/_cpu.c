/* The sampler's work between two network evaluations, in one pass over memory: what kernels/update.py specifies.
 *
 * Called through ctypes by kernels/cpu.py, which checks every shape; nothing here allocates or fails. All arrays are
 * float32 and dense; a state is (planes = N * C, H, W). The network's input and output have rows of `pitch` floats and
 * planes of `area` floats. Sums are taken in the order of update.py and never contracted (-ffp-contract=off), so that
 * every processor gives the same bits.
 */
#include <math.h>
#include <stdint.h>

#define BLOCK 64 /* columns per pass: the temporaries of a pass stay in the first-level cache */

/* One binary for every processor: the loader picks the widest vectors that this one has. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#if __GNUC__ >= 12 /* the first that knows these names here */
#define VECTORISED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VECTORISED __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define VECTORISED
#endif
#define INLINE static inline __attribute__((always_inline))

/* Natural logarithm of u in (0, 1], u a normal double: u = 2^e m with m in [sqrt(1/2), sqrt(2)), and
 * log m = 2 atanh((m - 1) / (m + 1)). Relative error below 1e-10, far under float32's. */
INLINE double log_unit(double u)
{
    union { double d; int64_t i; } bits = { u };
    int64_t e = (bits.i - 0x3FE6A09E667F3BCDLL) >> 52;
    bits.i -= e * (1LL << 52);
    double t = (bits.d - 1.0) / (bits.d + 1.0), s = t * t;
    double p = 1.0 / 13;
    p = p * s + 1.0 / 11;
    p = p * s + 1.0 / 9;
    p = p * s + 1.0 / 7;
    p = p * s + 1.0 / 5;
    p = p * s + 1.0 / 3;
    p = p * s + 1.0;
    return 2.0 * t * p + (double)e * 0.69314718055994530942;
}

/* cos and sin of 2 pi v for v in [0, 1): v is reduced to within an eighth of a turn of the nearest quarter. */
INLINE void cos_sin_turn(double v, double *c, double *s)
{
    int32_t quarter = (int32_t)(4.0 * v + 0.5);
    double a = (v - 0.25 * quarter) * 6.28318530717958647692, a2 = a * a;
    double sine = a * (1 + a2 * (-1.0 / 6 + a2 * (1.0 / 120 + a2 * (-1.0 / 5040 + a2 * (1.0 / 362880
                  + a2 * (-1.0 / 39916800))))));
    double cosine = 1 + a2 * (-0.5 + a2 * (1.0 / 24 + a2 * (-1.0 / 720 + a2 * (1.0 / 40320
                    + a2 * (-1.0 / 3628800)))));
    double one = quarter & 1 ? sine : cosine, other = quarter & 1 ? cosine : sine;
    *c = (quarter + 1) & 2 ? -one : one;
    *s = quarter & 2 ? -other : other;
}

/* Noise for columns x .. x + 4 * groups of one row, x a multiple of 4; see kernels/noise.py. */
INLINE void normals(uint32_t seed, uint32_t draw, uint32_t image, uint32_t channel, uint32_t y, uint32_t x,
                    int groups, float *z)
{
    uint32_t w0[BLOCK / 4 + 1], w1[BLOCK / 4 + 1], w2[BLOCK / 4 + 1], w3[BLOCK / 4 + 1];
    for (int g = 0; g < groups; g++) {
        uint32_t c0 = x / 4 + (uint32_t)g, c1 = y, c2 = channel, c3 = image, k0 = seed, k1 = draw;
        for (int round = 0; round < 10; round++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
            c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
            c1 = (uint32_t)p1;
            c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
            c3 = (uint32_t)p0;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        w0[g] = c0, w1[g] = c1, w2[g] = c2, w3[g] = c3;
    }
    for (int g = 0; g < groups; g++) {
        double c, s, r;
        r = sqrt(-2.0 * log_unit((double)((int32_t)(w0[g] >> 8) + 1) * 0x1p-24));
        cos_sin_turn((double)(int32_t)(w1[g] >> 8) * 0x1p-24, &c, &s);
        z[4 * g] = (float)(r * c);
        z[4 * g + 1] = (float)(r * s);
        r = sqrt(-2.0 * log_unit((double)((int32_t)(w2[g] >> 8) + 1) * 0x1p-24));
        cos_sin_turn((double)(int32_t)(w3[g] >> 8) * 0x1p-24, &c, &s);
        z[4 * g + 2] = (float)(r * c);
        z[4 * g + 3] = (float)(r * s);
    }
}

typedef struct {
    int64_t channels, height, width, pitch, area; /* of one picture; pitch and area of the network's arrays */
    uint32_t seed, draw, image, y, x;             /* of the noise; image, y, x of the window's corner */
    float cx, cm, cf, ax, am, b0, b1, b2, b3, n, m; /* the row */
    int32_t clamp;                                /* 0 none, 1 to [0, 1], 2 by the picture's threshold */
} Job;

/* Lines [first, last) of a step, line = plane * H + row; `packed` may be null, `thresholds` (one of each picture) is
 * read where clamp is 2. */
VECTORISED void mrs_step(const Job *j, int64_t first, int64_t last, float *x, const float *mu, const float *output,
                         const float *q1, const float *q2, const float *q3, float *kept, float *packed,
                         const float *thresholds)
{
    float noise[BLOCK + 4];
    for (int64_t line = first; line < last; line++) {
        int64_t plane = line / j->height, row = line % j->height;
        int64_t image = plane / j->channels, channel = plane % j->channels;
        for (int64_t column = 0; column < j->width; column += BLOCK) {
            int count = (int)(j->width - column < BLOCK ? j->width - column : BLOCK);
            int64_t at = line * j->width + column;
            float *xs = x + at, *newest = kept + at; /* kept may be any of q1, q2, q3: no restrict */
            const float *m = mu + at;
            const float *older[3] = { q1 + at, q2 + at, q3 + at }, weights[3] = { j->b1, j->b2, j->b3 };
            const float *f = output + plane * j->area + row * j->pitch + column;
            const float *z = noise;
            if (j->n != 0) {
                uint32_t from = j->x + (uint32_t)column, skip = from & 3;
                normals(j->seed, j->draw, j->image + (uint32_t)image, (uint32_t)channel, j->y + (uint32_t)row,
                        from - skip, (count + (int)skip + 3) / 4, noise);
                z += skip;
            }
            float q0[BLOCK], total[BLOCK];
            for (int i = 0; i < count; i++) q0[i] = j->cx * xs[i] + j->cm * m[i] + j->cf * f[i];
            /* Comparisons written so that NaN stays NaN. */
            if (j->clamp == 1)
                for (int i = 0; i < count; i++) q0[i] = q0[i] < 0 ? 0 : q0[i] > 1 ? 1 : q0[i];
            if (j->clamp == 2) {
                float bound = thresholds[image];
                for (int i = 0; i < count; i++)
                    q0[i] = (q0[i] < -bound ? -bound : q0[i] > bound ? bound : q0[i]) / bound;
            }
            if (j->m != 0)
                for (int i = 0; i < count; i++) q0[i] += j->m * (older[0][i] - q0[i]);
            for (int i = 0; i < count; i++) total[i] = j->ax * xs[i] + j->am * m[i] + j->b0 * q0[i];
            for (int k = 0; k < 3; k++)
                if (weights[k] != 0)
                    for (int i = 0; i < count; i++) total[i] += weights[k] * older[k][i];
            if (j->n != 0)
                for (int i = 0; i < count; i++) total[i] += j->n * z[i];
            for (int i = 0; i < count; i++) {
                xs[i] = total[i];
                newest[i] = q0[i];
            }
            if (packed) {
                float *restrict p = packed + (image * 2 * j->channels + channel) * j->area + row * j->pitch + column;
                for (int i = 0; i < count; i++) p[i] = total[i] - m[i];
            }
        }
    }
}

/* Lines [first, last): picture (N, H, W, C) to mu, x = mu + n z and both halves of the network's input. Exactly one
 * of `bytes` and `floats` is given. */
VECTORISED void mrs_start(const Job *j, int64_t first, int64_t last, const uint8_t *bytes, const float *floats,
                          float *mu, float *x, float *packed)
{
    float noise[BLOCK + 4];
    for (int64_t line = first; line < last; line++) {
        int64_t plane = line / j->height, row = line % j->height;
        int64_t image = plane / j->channels, channel = plane % j->channels;
        for (int64_t column = 0; column < j->width; column += BLOCK) {
            int count = (int)(j->width - column < BLOCK ? j->width - column : BLOCK);
            int64_t at = line * j->width + column;
            int64_t from = ((image * j->height + row) * j->width + column) * j->channels + channel;
            float *restrict m = mu + at, *restrict xs = x + at;
            float *restrict p = packed + (image * 2 * j->channels + channel) * j->area + row * j->pitch + column;
            float *restrict pm = p + j->channels * j->area;
            uint32_t corner = j->x + (uint32_t)column, skip = corner & 3;
            normals(j->seed, j->draw, j->image + (uint32_t)image, (uint32_t)channel, j->y + (uint32_t)row,
                    corner - skip, (count + (int)skip + 3) / 4, noise);
            const float *z = noise + skip;
            if (bytes)
                for (int i = 0; i < count; i++) m[i] = (float)bytes[from + i * j->channels] / 255.0f;
            else
                for (int i = 0; i < count; i++) m[i] = floats[from + i * j->channels];
            for (int i = 0; i < count; i++) {
                pm[i] = m[i];
                xs[i] = m[i] + j->n * z[i];
                p[i] = xs[i] - m[i];
            }
        }
    }
}

/* Rows [first, last) of all pictures (row of picture k: k * H + row): state to picture, clamped, uint8 rounded to
 * nearest with halves to even. */
VECTORISED void mrs_finish(const Job *j, int64_t first, int64_t last, const float *x, uint8_t *bytes, float *floats)
{
    for (int64_t line = first; line < last; line++) {
        int64_t image = line / j->height, row = line % j->height;
        for (int64_t channel = 0; channel < j->channels; channel++) {
            const float *restrict xs = x + ((image * j->channels + channel) * j->height + row) * j->width;
            int64_t to = line * j->width * j->channels + channel;
            for (int64_t i = 0; i < j->width; i++) {
                float v = xs[i] < 0 ? 0 : xs[i] > 1 ? 1 : xs[i];
                if (bytes) bytes[to + i * j->channels] = (uint8_t)rintf(v * 255.0f);
                else floats[to + i * j->channels] = v;
            }
        }
    }
}

/* setuptools builds extension modules only, and linkers on Windows ask for this name. ctypes loads the library, Python
 * never imports it; so that Python's headers are not needed. */
void *PyInit__cpu(void) { return 0; }
