// One thread for each element of the result. Sums are gathered, never scattered: no two threads
// add to one place, and the order of a sum is always the same. T is float or double; offsets count
// elements. nn/kernels.py calls these; the array versions beside its callers say what they compute.

#define ELEMENT                                                        \
    long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x;  \
    if (at >= size) return;

// columns[n, oh, ow, i, j, c] = x[n, oh SH + i, ow SW + j, c]
extern "C" __global__ void windows(
    const T* x, T* columns, long long size, long long OH, long long OW, long long KH, long long KW,
    long long C, long long SH, long long SW, long long xn, long long xh, long long xw)
{
    ELEMENT
    long long c = at % C, j = at / C % KW, i = at / (C * KW) % KH, row = at / (C * KW * KH);
    long long ow = row % OW, oh = row / OW % OH, n = row / (OW * OH);
    columns[at] = x[n * xn + (oh * SH + i) * xh + (ow * SW + j) * xw + c];
}

// out[n, h, w, c] = the sum of columns[n, oh, ow, i, j, c] over oh SH + i = h and ow SW + j = w
extern "C" __global__ void fold(
    const T* columns, T* out, long long size, long long H, long long W, long long OH, long long OW,
    long long KH, long long KW, long long C, long long SH, long long SW, long long on, long long oh_,
    long long ow_)
{
    ELEMENT
    long long c = at % C, w = at / C % W, h = at / (C * W) % H, n = at / (C * W * H);
    T sum = 0;
    for (long long i = h % SH; i < KH && i <= h; i += SH) {
        long long oh = (h - i) / SH;
        if (oh >= OH) continue;
        for (long long j = w % SW; j < KW && j <= w; j += SW) {
            long long ow = (w - j) / SW;
            if (ow < OW) sum += columns[((((n * OH + oh) * OW + ow) * KH + i) * KW + j) * C + c];
        }
    }
    out[n * on + h * oh_ + w * ow_ + c] = sum;
}

// The first maximum, in row order, of the pixels of the window that lie in the image. A NaN wins.
extern "C" __global__ void max_pool(
    const T* x, T* value, unsigned char* argmax, long long size, long long H, long long W, long long C,
    long long OH, long long OW, long long KH, long long KW, long long SH, long long SW, long long top,
    long long left, long long xn, long long xh, long long xw)
{
    ELEMENT
    long long c = at % C, ow = at / C % OW, oh = at / (C * OW) % OH, n = at / (C * OW * OH);
    T best = 0;
    int place = -1;
    for (long long i = 0; i < KH; i++) {
        long long h = oh * SH + i - top;
        if (h < 0 || h >= H) continue;
        for (long long j = 0; j < KW; j++) {
            long long w = ow * SW + j - left;
            if (w < 0 || w >= W) continue;
            T v = x[n * xn + h * xh + w * xw + c];
            if (place < 0 || v > best) place = i * KW + j, best = v;
            else if (v != v) best = v;
        }
    }
    value[at] = best;
    argmax[at] = place;
}

// dx[n, h, w, c] = the sum of dy over the windows whose maximum is at (h, w)
extern "C" __global__ void argmax_unpool(
    const T* dy, const unsigned char* argmax, T* dx, long long size, long long H, long long W,
    long long C, long long OH, long long OW, long long KH, long long KW, long long SH, long long SW,
    long long top, long long left, long long yn, long long yh, long long yw)
{
    ELEMENT
    long long c = at % C, w = at / C % W + left, h = at / (C * W) % H + top, n = at / (C * W * H);
    T sum = 0;
    for (long long i = h % SH; i < KH && i <= h; i += SH) {
        long long oh = (h - i) / SH;
        if (oh >= OH) continue;
        for (long long j = w % SW; j < KW && j <= w; j += SW) {
            long long ow = (w - j) / SW;
            if (ow >= OW) continue;
            if (argmax[((n * OH + oh) * OW + ow) * C + c] == i * KW + j)
                sum += dy[n * yn + oh * yh + ow * yw + c];
        }
    }
    dx[at] = sum;
}

// s = k + alpha / M * the sum of x^2 over the M neighbours; power = s^-beta; y = x power
extern "C" __global__ void lrn(
    const T* x, T* scale, T* power, T* y, long long size, long long H, long long W, long long C,
    long long reach_h, long long reach_w, long long reach_c, double share, double beta, double k)
{
    ELEMENT
    long long c = at % C, w = at / C % W, h = at / (C * W) % H;
    T sum = 0;
    for (long long dh = -reach_h; dh <= reach_h; dh++)
        for (long long dw = -reach_w; dw <= reach_w; dw++)
            for (long long dc = -reach_c; dc <= reach_c; dc++)
                if (h + dh >= 0 && h + dh < H && w + dw >= 0 && w + dw < W && c + dc >= 0 && c + dc < C) {
                    T v = x[at + (dh * W + dw) * C + dc];
                    sum += v * v;
                }
    T s = (T)k + (T)share * sum;
    T p = pow(s, (T)-beta);
    scale[at] = s, power[at] = p, y[at] = x[at] * p;
}

// dx = dy power - 2 alpha beta / M x * the sum of dy y / s over the neighbours
extern "C" __global__ void lrn_backward(
    const T* dy, const T* x, const T* scale, const T* power, const T* y, T* dx, long long size,
    long long H, long long W, long long C, long long reach_h, long long reach_w, long long reach_c,
    double share)
{
    ELEMENT
    long long c = at % C, w = at / C % W, h = at / (C * W) % H;
    T sum = 0;
    for (long long dh = -reach_h; dh <= reach_h; dh++)
        for (long long dw = -reach_w; dw <= reach_w; dw++)
            for (long long dc = -reach_c; dc <= reach_c; dc++)
                if (h + dh >= 0 && h + dh < H && w + dw >= 0 && w + dw < W && c + dc >= 0 && c + dc < C) {
                    long long j = at + (dh * W + dw) * C + dc;
                    sum += dy[j] * y[j] / scale[j];
                }
    dx[at] = dy[at] * power[at] - (T)share * x[at] * sum;
}

// y = max(y + b, 0) in rows of F numbers, and where it is positive. A NaN stays.
extern "C" __global__ void bias_relu(
    T* y, const T* b, unsigned char* positive, long long size, long long F)
{
    ELEMENT
    T v = y[at] + b[at % F];
    positive[at] = v > 0;
    y[at] = v <= 0 ? (T)0 : v;
}

// V = momentum V + lr lr_mult (g + decay w); w -= V
extern "C" __global__ void sgd(
    T* w, T* V, const T* g, const double* lr, long long size, double lr_mult, double momentum,
    double decay)
{
    ELEMENT
    V[at] = (T)momentum * V[at] + (T)(*lr * lr_mult) * (g[at] + (T)decay * w[at]);
    w[at] -= V[at];
}
