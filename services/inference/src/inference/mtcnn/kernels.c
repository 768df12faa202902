/* The kernels of the detector. kernels.py is the only caller and documents each function.
 *
 * `pixels` is (height, width, 3) bytes, RGB, rows without gaps. Networks take pixels as (value - 127.5) / 128. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline))

/* A register holds LANES floats. GROUP channels are summed at once, as many as there are registers for. */
#if defined(__AVX512F__)
enum { LANES = 16, GROUP = 10 };
#elif defined(__AVX2__)
enum { LANES = 8, GROUP = 5 };
#elif defined(__aarch64__)
enum { LANES = 4, GROUP = 10 };
#else
enum { LANES = 4, GROUP = 5 };
#endif
enum { COLORS = 3, CHANNELS = 10, RING = 4, PAGE = 4096, CACHE_LINE = 64 };

typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef float pixel __attribute__((vector_size(16))); /* R, G, B and one unused float */

static const float MEAN = 127.5f, SPREAD = 128;

INLINE int min(int a, int b) { return a < b ? a : b; }
INLINE floats load(const float *from) { floats value; memcpy(&value, from, sizeof value); return value; }
INLINE pixel load_pixel(const float *from) { pixel value; memcpy(&value, from, sizeof value); return value; }
INLINE floats choose(ints mask, floats yes, floats no) { return (floats)((mask & (ints)yes) | (~mask & (ints)no)); }

/* Area resize, one row at a time. */

/* The image pixels under one pixel of a level: `count` from `first` on, the outer two perhaps covered in part. */
typedef struct { int first, count; float first_weight, last_weight; } Span;

/* In float and unfused, as TensorFlow's ResizeArea rounds: at pixel 4000 a float's last bit is 1/4096 of a pixel. */
static float covered(int pixel, float begin, float end) {
    #pragma STDC FP_CONTRACT OFF
    const float after = pixel + 1;
    if (pixel < begin) return after > end ? end - begin : after - begin;
    return after > end ? end - pixel : 1;
}

static Span span(int at, float scale, int limit) {
    #pragma STDC FP_CONTRACT OFF
    const float begin = at * scale, end = (at + 1) * scale;
    const int first = (int)floorf(begin), last = min((int)ceilf(end), limit) - 1;
    const float overhang = fmaxf(0, end - limit); /* rounding can put the end beyond the edge */
    return (Span){first, last - first + 1, covered(first, begin, end), covered(last, begin, end) + overhang};
}

INLINE float weight_of(Span s, int i) { return i == 0 ? s.first_weight : i == s.count - 1 ? s.last_weight : i < s.count; }

INLINE float total(Span s) {
    float sum = 0;
    for (int i = 0; i < s.count; i++) sum += weight_of(s, i);
    return sum;
}

/* A tile of a pyramid level, in pixels of the level, and its source in the image. */
typedef struct {
    const uint8_t *pixels;
    int height, width;      /* of the image */
    float y_scale, x_scale; /* image pixels per level pixel */
    int top, columns;       /* of the tile, in the level */
    int from, to;           /* the image's columns under the tile */
    int taps;               /* the largest number of image columns under one column of the tile */
    int *firsts;            /* [columns]: the first of them, relative to `from` */
    float *weights;         /* [columns][taps], padded with 0 */
    float *sum;             /* [(to - from + taps) * COLORS] */
    int plane;              /* floats from one plane of a row to the next */
} Tile;

/* Add weighted rows of the image, four at once because loading and storing the sums costs more than adding. In a large
 * image each row lies on another page, and processors do not prefetch across pages. */
static void add_rows(const Tile *tile, Span rows) {
    const int values = COLORS * (tile->to - tile->from);
    const ptrdiff_t stride = COLORS * (ptrdiff_t)tile->width;
    const uint8_t *in = tile->pixels + rows.first * stride + COLORS * tile->from;
    float *sum = tile->sum;
    const float mean = MEAN * total(rows);
    for (int i = 0; i < values; i++) sum[i] = -mean;
    for (int y = 0; y < rows.count; y += 4, in += 4 * stride) {
        const int left = rows.count - y;
        for (int row = 4; row < 8 && stride > 2 * PAGE && rows.first + y + row < tile->height; row++)
            for (int i = 0; i < values; i += CACHE_LINE) __builtin_prefetch(in + row * stride + i);
        const uint8_t *a = in, *b = a + (left > 1 ? stride : 0);
        const uint8_t *c = b + (left > 2 ? stride : 0), *d = c + (left > 3 ? stride : 0);
        const float wa = weight_of(rows, y), wb = weight_of(rows, y + 1);
        const float wc = weight_of(rows, y + 2), wd = weight_of(rows, y + 3);
        if (left == 2)
            for (int i = 0; i < values; i++) sum[i] += wa * a[i] + wb * b[i];
        else if (left == 3)
            for (int i = 0; i < values; i++) sum[i] += wa * a[i] + wb * b[i] + wc * c[i];
        else if (y > 0 && left > 4)
            for (int i = 0; i < values; i++) sum[i] += (uint16_t)(a[i] + b[i] + c[i] + d[i]);
        else
            for (int i = 0; i < values; i++) sum[i] += wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i];
    }
}

INLINE void weigh(const Tile *tile, int taps, float *planes) {
    for (int x = 0; x < tile->columns; x++) {
        const float *in = tile->sum + tile->firsts[x], *weights = tile->weights + (ptrdiff_t)taps * x;
        pixel value = {0};
        for (int i = 0; i < taps; i++) value += load_pixel(in + COLORS * i) * weights[i];
        float *out = planes + (x & 1) * tile->plane + (x >> 1);
        for (int color = 0; color < COLORS; color++) out[2 * color * tile->plane] = value[color];
    }
}

/* One row, normalized, as six planes: for each color the even columns, then the odd ones. */
static void area_row(const Tile *tile, int row, float *planes) {
    add_rows(tile, span(tile->top + row, tile->y_scale, tile->height));
    switch (tile->taps) { /* constant counts let the compiler unroll the loop */
    case 3: weigh(tile, 3, planes); break;
    case 4: weigh(tile, 4, planes); break;
    case 5: weigh(tile, 5, planes); break;
    default: weigh(tile, tile->taps, planes);
    }
}

/* The weights of P-Net's first layer. */
typedef struct { float weight[3][COLORS][3][CHANNELS], bias[CHANNELS], slope[CHANNELS]; } Layer;

INLINE floats prelu(floats value, float slope) { return choose(value > 0, value, value * slope); }

/* Convolve three rows at the columns 2 * at, 2 * at + 1, ... and keep the larger of each even and odd neighbor. Where
 * `pair` is not set, there is no odd one. Store the results in `best`, or with `replace` unset only the larger ones. */
INLINE void convolve(const float *const rows[3], const Tile *tile, int at, const Layer *layer, int group, ints pair,
                     floats best[GROUP], int replace) {
    floats even[GROUP], odd[GROUP];
    for (int c = 0; c < GROUP; c++) even[c] = odd[c] = (floats){0} + layer->bias[group + c];
    for (int y = 0; y < 3; y++)
        for (int color = 0; color < COLORS; color++) {
            const float *evens = rows[y] + 2 * color * tile->plane + at, *odds = evens + tile->plane;
            const floats column[4] = {load(evens), load(odds), load(evens + 1), load(odds + 1)};
            for (int x = 0; x < 3; x++)
                for (int c = 0; c < GROUP; c++) {
                    const float weight = layer->weight[y][color][x][group + c];
                    even[c] += column[x] * weight;
                    odd[c] += column[x + 1] * weight;
                }
        }
    for (int c = 0; c < GROUP; c++) {
        const floats left = prelu(even[c], layer->slope[group + c]), right = prelu(odd[c], layer->slope[group + c]);
        const floats larger = choose((right > left) & pair, right, left);
        best[c] = replace ? larger : choose(larger > best[c], larger, best[c]);
    }
}

EXPORT int first_layer(const uint8_t *pixels, int height, int width, int level_height, int level_width, int top,
                       int left, int rows, int columns, const Layer *layer, float *out, ptrdiff_t out_row,
                       ptrdiff_t out_channel) {
    Tile tile = {.pixels = pixels, .height = height, .width = width, .top = top, .columns = columns,
                 .y_scale = height / (float)level_height, .x_scale = width / (float)level_width,
                 .plane = (columns + 1) / 2 + LANES + 1}; /* loads can begin one after the last column */
    const ptrdiff_t row_size = 2 * COLORS * tile.plane;
    const Span first = span(left, tile.x_scale, width), last = span(left + columns - 1, tile.x_scale, width);
    tile.from = first.first, tile.to = last.first + last.count, tile.taps = (int)ceilf(tile.x_scale) + 1;
    float *ring = calloc(RING * row_size, sizeof(float));
    tile.firsts = malloc(columns * sizeof(int));
    tile.weights = calloc((ptrdiff_t)columns * tile.taps, sizeof(float));
    tile.sum = calloc(COLORS * (tile.to - tile.from + tile.taps) + 1, sizeof(float));
    const int failed = !ring || !tile.firsts || !tile.weights || !tile.sum;
    const float share = 1 / (tile.x_scale * tile.y_scale * SPREAD);
    for (int x = 0; x < columns && !failed; x++) {
        const Span s = span(left + x, tile.x_scale, width);
        tile.firsts[x] = COLORS * (s.first - tile.from);
        for (int i = 0; i < s.count; i++) tile.weights[x * tile.taps + i] = share * weight_of(s, i);
    }

    /* The pooling is "same": if the convolution has an odd side, the window of its last row or column has only one. */
    const int out_rows = (rows - 1) / 2, out_columns = (columns - 1) / 2, pairs = (columns - 2) / 2;
    ints lane;
    for (int i = 0; i < LANES; i++) lane[i] = i;
    for (int y = 0, ready = 0; y < out_rows && !failed; y++) {
        for (; ready < min(2 * y + 4, rows); ready++) area_row(&tile, ready, ring + ready % RING * row_size);
        const float *three[2][3];
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 3; j++) three[i][j] = ring + (2 * y + i + j) % RING * row_size;
        for (int x = 0; x < out_columns; x += LANES) {
            const ints pair = lane + x < pairs;
            for (int group = 0; group < CHANNELS; group += GROUP) {
                floats best[GROUP];
                convolve(three[0], &tile, x, layer, group, pair, best, 1);
                if (2 * y + 4 <= rows) convolve(three[1], &tile, x, layer, group, pair, best, 0);
                for (int c = 0; c < GROUP; c++) {
                    float *to = out + (group + c) * out_channel + y * out_row + x;
                    if (x + LANES <= out_columns) memcpy(to, &best[c], sizeof best[c]);
                    else memcpy(to, &best[c], (out_columns - x) * sizeof(float));
                }
            }
        }
    }
    free(tile.sum);
    free(ring);
    free(tile.weights);
    free(tile.firsts);
    return failed;
}

/* The position of a crop's row or column: between two pixels, or outside the image (first < 0). */
typedef struct { int first, second; float share; } Sample;

/* In float and unfused, as TensorFlow's CropAndResize rounds. */
static Sample sample(float begin, float end, int at, int size, int limit) {
    #pragma STDC FP_CONTRACT OFF
    const float step = (end - begin) * (limit - 1) / (size - 1), place = begin * (limit - 1) + at * step;
    if (!(place >= 0 && place <= limit - 1)) return (Sample){.first = -1};
    const int first = (int)place;
    return (Sample){.first = first, .second = min(first + 1, limit - 1), .share = place - first};
}

EXPORT void crop(const uint8_t *pixels, int height, int width, const float *boxes, int count, int size, float *out) {
    Sample columns[48];
    for (int i = 0; i < count; i++, boxes += 4, out += COLORS * size * size) {
        for (int x = 0; x < size; x++) columns[x] = sample(boxes[0], boxes[2], x, size, width);
        for (int y = 0; y < size; y++) {
            const Sample row = sample(boxes[1], boxes[3], y, size, height);
            const uint8_t *upper = pixels + COLORS * (ptrdiff_t)row.first * width;
            const uint8_t *lower = pixels + COLORS * (ptrdiff_t)row.second * width;
            for (int x = 0; x < size; x++) {
                const Sample column = columns[x];
                const int outside = row.first < 0 || column.first < 0;
                for (int color = 0; color < COLORS; color++) {
                    float value = 0;
                    if (!outside) {
                        const int l = COLORS * column.first + color, r = COLORS * column.second + color;
                        const float above = upper[l] + (upper[r] - upper[l]) * column.share;
                        const float below = lower[l] + (lower[r] - lower[l]) * column.share;
                        value = (above + (below - above) * row.share - MEAN) / SPREAD;
                    }
                    out[(color * size + y) * size + x] = value;
                }
            }
        }
    }
}

EXPORT void suppress(const double *boxes, const int64_t *ranks, int64_t from, int64_t to, int64_t count, double limit,
                     int by_smaller, uint8_t *suppressed) {
    for (int64_t i = from; i < to; i++) {
        const double *a = boxes + 4 * i, area = (a[2] - a[0]) * (a[3] - a[1]);
        for (int64_t j = i + 1; j < count && boxes[4 * j] < a[2]; j++) {
            const double *b = boxes + 4 * j;
            const int64_t worse = ranks[i] > ranks[j] ? ranks[i] : ranks[j];
            if (suppressed[worse]) continue;
            const double w = fmin(a[2], b[2]) - b[0], h = fmin(a[3], b[3]) - fmax(a[1], b[1]);
            if (!(w > 0 && h > 0)) continue;
            const double other = (b[2] - b[0]) * (b[3] - b[1]), shared = w * h;
            const double whole = by_smaller ? fmin(area, other) : area + other - shared;
            if (shared / whole > limit) suppressed[worse] = 1;
        }
    }
}
