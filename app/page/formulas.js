// The formulas of the page. The tests run them by node beside losses/ and hmc/.
"use strict";

const Formulas = {
  // softmax of a list, and its logarithm (losses/discriminative.py, log_softmax)
  softmax(values) {
    const largest = Math.max(...values);
    const exps = values.map((v) => Math.exp(v - largest));
    const sum = exps.reduce((a, b) => a + b, 0);
    return exps.map((e) => e / sum);
  },

  transposed(F) {
    return F[0].map((_, y) => F.map((row) => row[y]));
  },

  // scores F (n x K), labels -> all that the first section shows
  twoSoftmaxes(F, labels) {
    const n = F.length, K = F[0].length;
    const P = F.map(Formulas.softmax); // rows: over the classes of an image (Eq. 4)
    const W = Formulas.transposed(Formulas.transposed(F).map(Formulas.softmax)); // columns (Eq. 12)
    const count = Array.from({ length: K }, (_, y) => labels.filter((l) => l === y).length);
    const own = (i, y) => (labels[i] === y ? 1 : 0);
    const dg = P.map((row, i) => row.map((p, y) => own(i, y) - p)); // n times minus Eq. 18
    const gg = W.map((row, i) => row.map((w, y) => own(i, y) - count[y] * w)); // n times minus Eq. 14
    const ess = count.map((_, y) => 1 / W.reduce((sum, row) => sum + row[y] ** 2, 0));
    return { P, W, dg, gg, ess, count };
  },

  mean(values) {
    return values.reduce((a, b) => a + b, 0) / values.length;
  },

  // Random numbers from a seed (mulberry32), uniform and normal: the same in every browser.
  random(seed) {
    let a = seed >>> 0;
    const uniform = () => {
      a = (a + 0x6d2b79f5) | 0;
      let t = Math.imul(a ^ (a >>> 15), 1 | a);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
    const normal = () =>
      Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    return { uniform, normal };
  },

  // Energies of two numbers z, as of a node: U(z) = |z|^2 / 2 - f(z). `mean` is that of exp(-U).
  energies: {
    bowl: { f: () => 0, slope: () => [0, 0], mean: [0, 0], reach: 0 },
    slope: { f: (z) => 2 * z[0] + z[1], slope: () => [2, 1], mean: [2, 1], reach: 2.2 },
    filters: {
      f: (z) => Math.max(...Formulas.filters.map((w) => w[0] * z[0] + w[1] * z[1])),
      slope(z) {
        const scores = Formulas.filters.map((w) => w[0] * z[0] + w[1] * z[1]);
        return Formulas.filters[scores.indexOf(Math.max(...scores))];
      },
      mean: [0, 0],
      reach: 3,
    },
  },
  filters: [90, 210, 330].map((angle) => {
    const a = (angle * Math.PI) / 180;
    return [2.2 * Math.cos(a), 2.2 * Math.sin(a)];
  }),

  // U / T and its gradient
  tempered(energy, T) {
    return {
      value: (z) => ((z[0] ** 2 + z[1] ** 2) / 2 - energy.f(z)) / T,
      gradient(z) {
        const s = energy.slope(z);
        return [(z[0] - s[0]) / T, (z[1] - s[1]) / T];
      },
    };
  },

  // hmc/leapfrog.py, Eq. 20 to 22: all positions of a trajectory, and H at each
  leapfrog(U, z, phi, eps, L, m) {
    const H = (z, phi) => U.value(z) + (phi[0] ** 2 + phi[1] ** 2) / (2 * m);
    const path = [z], energy = [H(z, phi)];
    let g = U.gradient(z);
    for (let step = 0; step < L; step++) {
      const half = phi.map((p, k) => p - (eps / 2) * g[k]); // Eq. 20
      z = z.map((x, k) => x + (eps / m) * half[k]); // Eq. 21
      g = U.gradient(z);
      phi = half.map((p, k) => p - (eps / 2) * g[k]); // Eq. 22
      path.push(z);
      energy.push(H(z, phi));
    }
    return { path, energy, phi };
  },

  // A chain of `count` trajectories, each accepted or rejected (hmc/sampler.py)
  chain({ energy, eps, L, m, T, seed }, count) {
    const target = Formulas.energies[energy], U = Formulas.tempered(target, T);
    const rng = Formulas.random(seed);
    let z = target.mean.map((mean, k) => mean + Math.sqrt(T) * [1.2, -0.6][k]);
    const trajectories = [];
    for (let n = 0; n < count; n++) {
      const phi = [rng.normal() * Math.sqrt(m), rng.normal() * Math.sqrt(m)];
      const { path, energy: H } = Formulas.leapfrog(U, z, phi, eps, L, m);
      const error = H[L] - H[0];
      const probability = Number.isFinite(error) ? Math.exp(Math.min(0, -error)) : 0;
      const accepted = rng.uniform() < probability;
      trajectories.push({ path, H, error, probability, accepted });
      if (accepted) z = path[L];
    }
    return trajectories;
  },

  // The correlation between where a trajectory begins and where the next one does; null if stuck
  correlation(trajectories, mean) {
    let product = 0, square = 0, moved = false;
    for (let n = 1; n < trajectories.length; n++) {
      const a = trajectories[n - 1].path[0], b = trajectories[n].path[0];
      moved = moved || a[0] !== b[0];
      for (const k of [0, 1]) {
        product += (a[k] - mean[k]) * (b[k] - mean[k]);
        square += (a[k] - mean[k]) ** 2;
      }
    }
    return moved ? product / square : null;
  },

  // hmc/forecast.py for one trajectory
  forecast({ eps, L, m, T }) {
    const period = Math.sqrt(T * m), x = eps / period;
    const step = Math.acos(Math.max(-1, 1 - x ** 2 / 2)); // the angle of a leapfrog step
    return { theta: x * L, turned: L * step, remains: Math.cos(L * step), unstable: x >= 2, x };
  },
};

if (typeof module !== "undefined") module.exports = Formulas;
