// One thread for each element of the result. Sums are gathered, never scattered: no two threads
// add to one place, and the order of a sum is always the same. T is float or double; offsets count
// elements. kernels.py calls these; the textbook (nn/) says what they compute.

#define ELEMENT                                       \
    I at = (I)blockIdx.x * blockDim.x + threadIdx.x;  \
    if (at >= size) return;

// columns[n, oh, ow, i, j, c] = x[n, oh SH + i, ow SW + j, c]
extern "C" __global__ void windows(
    const T* x, T* columns, I size, I OH, I OW, I KH, I KW, I C, I SH, I SW, I xn, I xh, I xw)
{
    ELEMENT
    I c = at % C, j = at / C % KW, i = at / (C * KW) % KH, row = at / (C * KW * KH);
    I ow = row % OW, oh = row / OW % OH, n = row / (OW * OH);
    columns[at] = x[n * xn + (oh * SH + i) * xh + (ow * SW + j) * xw + c];
}

// out[n, h, w, c] = the sum of columns[n, oh, ow, i, j, c] over oh SH + i = h and ow SW + j = w
extern "C" __global__ void fold(
    const T* columns, T* out, I size, I H, I W, I OH, I OW, I KH, I KW, I C, I SH, I SW, I on,
    I oh_, I ow_)
{
    ELEMENT
    I c = at % C, w = at / C % W, h = at / (C * W) % H, n = at / (C * W * H);
    T sum = 0;
    for (I i = h % SH; i < KH && i <= h; i += SH) {
        I oh = (h - i) / SH;
        if (oh >= OH) continue;
        for (I j = w % SW; j < KW && j <= w; j += SW) {
            I ow = (w - j) / SW;
            if (ow < OW) sum += columns[((((n * OH + oh) * OW + ow) * KH + i) * KW + j) * C + c];
        }
    }
    out[n * on + h * oh_ + w * ow_ + c] = sum;
}

// The first maximum, in row order, of the pixels of the window that lie in the image. A NaN wins.
extern "C" __global__ void max_pool(
    const T* x, T* value, unsigned char* argmax, I size, I H, I W, I C, I OH, I OW, I KH, I KW,
    I SH, I SW, I top, I left, I xn, I xh, I xw)
{
    ELEMENT
    I c = at % C, ow = at / C % OW, oh = at / (C * OW) % OH, n = at / (C * OW * OH);
    T best = 0;
    int place = -1;
    for (I i = 0; i < KH; i++) {
        I h = oh * SH + i - top;
        if (h < 0 || h >= H) continue;
        for (I j = 0; j < KW; j++) {
            I w = ow * SW + j - left;
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
    const T* dy, const unsigned char* argmax, T* dx, I size, I H, I W, I C, I OH, I OW, I KH, I KW,
    I SH, I SW, I top, I left, I yn, I yh, I yw)
{
    ELEMENT
    I c = at % C, w = at / C % W + left, h = at / (C * W) % H + top, n = at / (C * W * H);
    T sum = 0;
    for (I i = h % SH; i < KH && i <= h; i += SH) {
        I oh = (h - i) / SH;
        if (oh >= OH) continue;
        for (I j = w % SW; j < KW && j <= w; j += SW) {
            I ow = (w - j) / SW;
            if (ow >= OW) continue;
            if (argmax[((n * OH + oh) * OW + ow) * C + c] == i * KW + j)
                sum += dy[n * yn + oh * yh + ow * yw + c];
        }
    }
    dx[at] = sum;
}

// s = k + alpha / M * the sum of x^2 over the M neighbours; power = s^-beta; y = x power
extern "C" __global__ void lrn(
    const T* x, T* scale, T* power, T* y, I size, I H, I W, I C, I reach_h, I reach_w, I reach_c,
    double share, double beta, double k)
{
    ELEMENT
    I c = at % C, w = at / C % W, h = at / (C * W) % H;
    T sum = 0;
    for (I dh = -reach_h; dh <= reach_h; dh++)
        for (I dw = -reach_w; dw <= reach_w; dw++)
            for (I dc = -reach_c; dc <= reach_c; dc++)
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
    const T* dy, const T* x, const T* scale, const T* power, const T* y, T* dx, I size, I H, I W,
    I C, I reach_h, I reach_w, I reach_c, double share)
{
    ELEMENT
    I c = at % C, w = at / C % W, h = at / (C * W) % H;
    T sum = 0;
    for (I dh = -reach_h; dh <= reach_h; dh++)
        for (I dw = -reach_w; dw <= reach_w; dw++)
            for (I dc = -reach_c; dc <= reach_c; dc++)
                if (h + dh >= 0 && h + dh < H && w + dw >= 0 && w + dw < W && c + dc >= 0 && c + dc < C) {
                    I j = at + (dh * W + dw) * C + dc;
                    sum += dy[j] * y[j] / scale[j];
                }
    dx[at] = dy[at] * power[at] - (T)share * x[at] * sum;
}

// y = max(y + b, 0) in rows of F numbers, and where it is positive. A NaN stays.
extern "C" __global__ void bias_relu(
    T* y, const T* b, unsigned char* positive, I size, I F)
{
    ELEMENT
    T v = y[at] + b[at % F];
    positive[at] = v > 0;
    y[at] = v <= 0 ? (T)0 : v;
}

// V = momentum V + lr lr_mult (g + decay w); w -= V
extern "C" __global__ void sgd(
    T* w, T* V, const T* g, const double* lr, I size, double lr_mult, double momentum, double decay)
{
    ELEMENT
    V[at] = (T)momentum * V[at] + (T)(*lr * lr_mult) * (g[at] + (T)decay * w[at]);
    w[at] -= V[at];
}
