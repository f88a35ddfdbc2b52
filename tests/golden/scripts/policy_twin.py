"""AirCache and the methods it is compared with, written a second time: plain numpy, float64, one function an equation.

An independent judge of the Rust code: written from the paper's facts (equations (1)-(7), choices A8.1-A8.13), the
table of the other methods and the contract alone, without sight of the Rust code or of the spec chapters. Symbols are
the paper's. Speed is no aim. Budgets are computed in exact rational arithmetic.

It is not a model: it takes queries, keys and roles and returns windows, importances, budgets and kept sets.

Readings: where the sources leave a detail open, this file reads them so (R1 ...). Those marked * are switches below.

 R1  `text=all`: every text row of the prompt; `text=after`: those behind the last visual row; `text=question`: those of
     `after` without the template tail (what follows the user's question). The reference row of (1) is the last row of
     the set that counts (for `after` and `all` that is the last prompt token; for `question` the last question token).
 R2  Heads average probabilities, never logits: softmax per query head, then the mean. (2) compares with >= in float64,
     the product alpha * max rounded once.
 R3  `heads=union`: the union of the query heads' own elite sets; (3) per query head over that one set, then the mean.
     For windows other than elite, union and mean are the same.
 R4  `heads=kv`: everything per KV head over its own group of query heads: window, importance [G, n_v], kept set [G, b].
     Budgets are per layer: strength and skewness are each KV head's (an undefined skewness counts 0), then the mean
     over G; density is the mean over all query heads; prefix uses the importance averaged over G.
 R5  `keys=elite`: the union of visual rows and window rows, no row twice (a visual window adds no key).
     `keys=all`: every prompt row. `keys=causal`: every prompt row at or before the query, i.e. keys=all + mask=causal.
 R6  `mask=causal` hides keys behind the query's own row. A row whose keys are all hidden would count zero (cannot happen
     here: a window row always sees itself).
 R7  `last-text:N`, `all-text`: the last N, or all, rows of the text that counts (A8.1). `last-visual:N`: the last N visual
     rows. `all-queries`: every prompt row. A window larger than what there is takes what there is. All of them score
     with (3) and (4) as the elite do.
 R8  sigma = 0 is decided exactly: all importances equal as float64 numbers. Skewness is evaluated without underflow.
 R9  A8.6's "all layers 0 gives 1 everywhere" holds for the strength as well. Where all uncapped layers have share 0
     (A8.8), the rest is shared equally among them.
 R10 A8.8 caps a layer whose real budget exceeds n_v strictly. The first round's real budgets add up to r * n_v * L, the
     rounds after a cap to the integer total of A8.9 less n_v for each capped layer.
 R11 A8.9's empty layers are served from the lowest up, each from the then fullest layer (ties: the higher).
 R12 pyramid: shares fall linearly from max / mean to min / mean; one layer: share 1. *If max exceeds n_v then max = n_v and
     min = 2 * mean - n_v (the method's own rule); `PYRAMID_CLAMP = False` leaves it to A8.8.
 R13 prefix, exact: entry k (counted from 0) of a layer's sorted scores is preceded by the cumulative share c(k) of the
     entries before it; a layer whose threshold is p keeps exactly the entries with c < p; so the `total` entries with the
     smallest c are kept, ties to the lower layer. Shares are exact rationals of the float64 scores. A layer whose
     scores are all 0 has c = k / n_v.
 R14 sparsity: an entry is one probability of A before heads are averaged: a window row, a query head, a key that is not
     masked, visual or text. density = share of entries >= p * (maximum of their row), p = 0.01, mean over query heads,
     *clipped to [1 %, 100 %] before the shares are formed (`density`, not the budget, is what is clipped).
 R15 "Always kept" is counted among visual entries, inside the budget, since the paper compares all methods on visual
     entries: "first 4" = the first 4 visual tokens, "most recent" = the last visual tokens. First before recent where the
     budget does not suffice for both. The top ranks fill what is left of the budget.
 R16 H2O: recent half = floor(b / 2). VL-Cache: recent = floor(b / 10). The rest is top by score.
 R17 H2O, PrefixKV and VL-Cache average over all query heads (one kept set a layer); SnapKV and PyramidKV are per KV head
     (`heads=kv`), as their row says.
 R18 SnapKV's window of w = 32: *the last 32 text rows after the image (`last-text:32`; the paper's SnapKV row equals its "last 32 text" row
     at 1 %); always keeping the window is then void under scope visual. `SNAPKV_WINDOW = "rows"` takes the last 32 prompt
     rows of any role and keeps its visual rows first, the most recent first.
 R19 SnapKV's pooling: mean over the window's queries, then average over 5 neighbouring prompt positions (visual and text
     alike) among those before the first window row; positions outside count as 0 and the divisor stays 5
     (avg_pool1d with padding 2 and count_include_pad, as kvpress does); then the mean over the group's query heads.
 R20 StreamingLLM: the first min(4, b) visual tokens, then the most recent b - 4.
 R21 Causal attention of the other methods: softmax over all prompt keys at or before the query (keys=all, mask=causal).
     H2O, PrefixKV, VL-Cache sum over queries (not divided), SnapKV averages.
 R22 Without visual tokens every budget and kept set is empty and there is no window and no importance. Without text after
     the last visual token (text=after, question) or anywhere (text=all), a policy that needs text is an error.
"""
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor, isqrt

import numpy as np

PYRAMID_CLAMP = True        # R12
DENSITY_CLIP = "density"    # R14: "density" or "none"
SNAPKV_WINDOW = "text"      # R18: "text" or "rows"


class PolicyError(Exception):
    """What a prompt or a tensor can cause: NaN, no text after the image."""


# ---------------------------------------------------------------- the policy as parts

@dataclass(frozen=True)
class Policy:
    window: str = "elite:0.9"   # elite:a | last-text:N | all-text | last-visual:N | all-queries | last-rows:N | nobody
    heads: str = "mean"         # mean | union | kv
    keys: str = "elite"         # elite | all | causal
    mask: str = "none"          # none | causal
    text: str = "after"         # after | all | question
    budget: str = "both"        # uniform | pyramid | prefix | sparsity | strength | skewness | both
    score: str = "mean"         # over the window's queries: mean | sum | pooled (SnapKV) | none
    keep: str = "top"           # top | recent:NUM/DEN + top | first4+last+top | window+top | streaming | all


CAUSAL = dict(keys="all", mask="causal")
PRESETS = {
    "full": Policy(window="nobody", score="none", keep="all", budget="uniform"),
    "aircache": Policy(),
    "h2o": Policy(window="all-queries", score="sum", budget="uniform", keep="recent:1/2", **CAUSAL),
    "snapkv": Policy(window="last-text:32", score="pooled", heads="kv", budget="uniform", keep="window", **CAUSAL),
    "pyramidkv": Policy(window="last-text:32", score="pooled", heads="kv", budget="pyramid", keep="window", **CAUSAL),
    "prefixkv": Policy(window="all-queries", score="sum", budget="prefix", keep="first4+last", **CAUSAL),
    "vl-cache": Policy(window="all-text", score="sum", budget="sparsity", keep="recent:1/10", **CAUSAL),
    "streaming": Policy(window="nobody", score="none", budget="uniform", keep="streaming"),
}
if SNAPKV_WINDOW == "rows":
    for _name in ("snapkv", "pyramidkv"):
        PRESETS[_name] = replace(PRESETS[_name], window="last-rows:32")


def parse(text):
    """`--policy` as the contract writes it: a name, or parts on top of AirCache's."""
    if text in PRESETS:
        return PRESETS[text]
    return replace(Policy(), **dict(part.split("=", 1) for part in text.split(",")))


# ---------------------------------------------------------------- who is who

def visual_rows(roles):
    """Rows that came from the vision side (A8.11: one pool, A8.12)."""
    return np.flatnonzero(roles == 1)


def text_rows(roles, text, tail=None):
    """Rows of the text that counts (A8.1, R1). tail: rows of the template tail, needed for `question`."""
    rows = np.flatnonzero(roles == 0)
    if text == "all":
        return rows
    rows = rows[rows > visual_rows(roles)[-1]]
    if text == "after":
        return rows
    if text == "question":
        if tail is None:
            raise PolicyError("text=question needs the template tail")
        return rows[rows < len(roles) - tail]
    raise ValueError(text)


# ---------------------------------------------------------------- (1)-(4)

def softmax(s):
    """Over the last axis; -inf is masked; a row masked everywhere gives zeros (R6)."""
    m = s.max(axis=-1, keepdims=True)
    e = np.where(np.isneginf(s), 0.0, np.exp(s - np.where(np.isneginf(m), 0.0, m)))
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total == 0, 1.0, total)


def logits(q, k):
    """q [rows, d], k [keys, d] -> q k^T / sqrt(d). Summed over d in one order for every pair, so equal keys tie exactly."""
    return (q[:, None, :] * k[None, :, :]).sum(axis=-1) / np.sqrt(np.float64(q.shape[-1]))


def attention(q_h, k_g, queries, keys, mask):
    """softmax(Q K^T / sqrt(d)) of the given rows over the given keys; mask=causal hides keys behind the query."""
    s = logits(q_h[queries], k_g[keys])
    if mask == "causal":
        s = np.where(keys[None, :] <= queries[:, None], s, -np.inf)
    return softmax(s)


def equation_1(q_h, k_g, t):
    """Att[N_t - 1, :], the only row needed: [N_t]. It is the last text row, so a causal mask would hide nothing."""
    return attention(q_h, k_g, t[-1:], t, "none")[0]


def equation_2(att, t, alpha):
    """The elite: rows of t whose attention reaches alpha * max."""
    return t[att >= alpha * att.max()]


def elite(q, k, heads, t, alpha, note):
    """The elite set of one group of query heads. heads: how they agree (mean, union). q [h, n, d], k one key array a head."""
    att = [equation_1(q[h], k[h], t) for h in range(len(q))]
    if heads == "union":
        parts = [equation_2(a, t, alpha) for a in att]
        for a in att:
            note_threshold(note, a, alpha)
        return np.unique(np.concatenate(parts))
    mean = np.mean(att, axis=0)
    note_threshold(note, mean, alpha)
    return equation_2(mean, t, alpha)


def window(policy, roles, q, k, tail, note):
    """The rows that vote: ascending prompt rows."""
    kind, _, arg = policy.window.partition(":")
    v = visual_rows(roles)
    if kind == "all-queries":
        return np.arange(len(roles))
    if kind == "last-rows":
        return np.arange(len(roles))[-int(arg):]
    if kind == "last-visual":
        return v[-int(arg):]
    t = text_rows(roles, policy.text, tail)
    if len(t) == 0:
        raise PolicyError("no text after the image")
    if kind == "all-text":
        return t
    if kind == "last-text":
        return t[-int(arg):]
    if kind == "elite":
        return elite(q, k, policy.heads, t, float(arg), note)
    raise ValueError(policy.window)


def key_rows(policy, roles, w):
    """Keys that A is normalised over (A8.4, R5)."""
    if policy.keys == "elite":
        return np.union1d(visual_rows(roles), w)
    return np.arange(len(roles))


def equation_3(policy, roles, q, k, w):
    """A for each query head: [heads, N_tk, keys], and the keys' rows."""
    keys = key_rows(policy, roles, w)
    mask = "causal" if policy.keys == "causal" else policy.mask
    return np.stack([attention(q[h], k[h], w, keys, mask) for h in range(len(q))]), keys


def equation_4(policy, roles, a, keys, w):
    """Importance of each visual token [n_v] from A [heads, rows, keys]: mean over heads and over the window."""
    v = visual_rows(roles)
    if policy.score == "pooled":
        return pooled(a, keys, w)[v] if len(v) else np.zeros(0)
    visual = a[:, :, np.searchsorted(keys, v)].mean(axis=0)     # [rows, n_v]
    total = visual.sum(axis=0)
    return total / len(w) if policy.score == "mean" else total


def pooled(a, keys, w):
    """SnapKV's score of every prompt position [n] (R19); positions from the window on are +inf (always kept)."""
    n, before = len(keys), int(w[0])
    mean = a[:, :, :before].mean(axis=1)                        # [heads, before]
    padded = np.pad(mean, ((0, 0), (2, 2)))
    smooth = sum(padded[:, i:i + before] for i in range(5)) / 5
    return np.concatenate([smooth.mean(axis=0), np.full(n - before, np.inf)])


# ---------------------------------------------------------------- (5)-(7)

def equation_5(i_v):
    """strength s_t = sum of the importances."""
    return float(i_v.sum())


def equation_6(i_v):
    """skewness s_k, adjusted Fisher-Pearson (A8.6, A8.7, R8); evaluated exactly, rounded once."""
    n = len(i_v)
    if n < 3 or i_v.max() == i_v.min():
        return 0.0
    x = [Fraction(float(i)) for i in i_v]
    mu = sum(x) / n
    m2 = sum((xi - mu) ** 2 for xi in x)
    m3 = sum((xi - mu) ** 3 for xi in x)
    # s_k = n / ((n-1)(n-2)) * m3 / sigma^3 with sigma^2 = m2 / (n-1); the square is rational
    squared = Fraction(n * n, (n - 1) ** 2 * (n - 2) ** 2) * m3 * m3 * Fraction(n - 1) ** 3 / m2 ** 3
    root = isqrt(squared.numerator * 2 ** 256 // squared.denominator)      # floor(s_k * 2^128)
    return float(Fraction(root, 2 ** 128)) * (1 if m3 > 0 else -1 if m3 < 0 else 0)


def prime(values):
    """The ' of (7): divided by the mean over layers (A8.5); negative counts 0, all 0 gives 1 everywhere (A8.6, R9)."""
    x = [max(Fraction(0), Fraction(v)) for v in values]
    mean = sum(x) / len(x)
    return [Fraction(1)] * len(x) if mean == 0 else [xi / mean for xi in x]


def density(a, keys, w, causal, p=0.01):
    """Share of the entries of A [heads, rows, keys] that reach p of their row's maximum (R14), exact."""
    seen = (keys[None, :] <= w[:, None]) if causal else np.ones((len(w), len(keys)), bool)
    reach = (a >= p * a.max(axis=-1, keepdims=True)) & seen[None]
    share = Fraction(int(reach.sum()), int(seen.sum()) * len(a))
    return min(Fraction(1), max(Fraction(1, 100), share)) if DENSITY_CLIP == "density" else share


def shares_of(policy, r, n_v, layers):
    """The layers' shares, averaging 1 (7). layers: what each layer observed."""
    count = len(layers)
    if policy.budget == "uniform":
        return [Fraction(1)] * count
    if policy.budget == "pyramid":
        return pyramid(r, n_v, count)
    if policy.budget == "sparsity":
        return prime([layer.density for layer in layers])
    s_t = prime([layer.strength for layer in layers])
    s_k = prime([layer.skewness for layer in layers])
    return {"strength": s_t, "skewness": s_k, "both": [(t + k) / 2 for t, k in zip(s_t, s_k)]}[policy.budget]


def pyramid(r, n_v, count, beta=20):
    """PyramidKV: from max in the lowest layer to min in the highest, min = mean / beta, max = 2 mean - min (R12)."""
    mean = r * n_v
    low = mean / beta
    high = 2 * mean - low
    if PYRAMID_CLAMP and high > n_v:
        high, low = Fraction(n_v), 2 * mean - n_v
    if count == 1 or mean == 0:
        return [Fraction(1)] * count
    return [(high - l * (high - low) / (count - 1)) / mean for l in range(count)]


def total_budget(r, n_v, count):
    """A8.9: floor(r n_v L + 1/2), r exact."""
    return floor(r * n_v * count + Fraction(1, 2))


def real_budgets(shares, r, n_v, total):
    """A8.8: share * r * n_v, capped at n_v, the rest shared out again (R9, R10)."""
    real = [s * r * n_v for s in shares]
    capped = set()
    while True:
        over = {l for l, b in enumerate(real) if l not in capped and b > n_v}
        if not over:
            return real
        capped |= over
        free = [l for l in range(len(real)) if l not in capped]
        rest = Fraction(total - n_v * len(capped))
        weight = sum(shares[l] for l in free)
        for l in capped:
            real[l] = Fraction(n_v)
        for l in free:
            real[l] = rest * shares[l] / weight if weight else rest / len(free)


def whole_budgets(real, total, note):
    """A8.9: floors, then the largest remainders (ties: lower layer), then one for each empty layer if the total allows."""
    b = [floor(x) for x in real]
    order = sorted(range(len(real)), key=lambda l: (-(real[l] - b[l]), l))
    extra = total - sum(b)
    assert 0 <= extra <= len(b)
    if 0 < extra < len(b):
        note_gap(note, "remainder", real[order[extra - 1]] - floor(real[order[extra - 1]]), real[order[extra]] - floor(real[order[extra]]))
    for l in order[:extra]:
        b[l] += 1
    if total >= len(b):
        for l in range(len(b)):
            if b[l] == 0:
                fullest = max(range(len(b)), key=lambda m: (b[m], m))
                b[fullest] -= 1
                b[l] = 1
    return b


def prefix_budgets(layers, n_v, total, note):
    """PrefixKV: one cumulative share for all layers, found so that the total fits exactly (R13)."""
    entries = []
    for l, layer in enumerate(layers):
        i = np.atleast_2d(layer.importance).mean(axis=0)
        x = sorted((Fraction(float(value)) for value in i), reverse=True)
        if sum(x) == 0:
            x = [Fraction(1)] * n_v
        whole, before = sum(x), Fraction(0)
        for step, value in enumerate(x):
            entries.append((before / whole, l, step))
            before += value
    entries.sort()
    if 0 < total < len(entries):
        note_gap(note, "prefix", entries[total][0], entries[total - 1][0])
    b = [0] * len(layers)
    for _, l, _ in entries[:total]:
        b[l] += 1
    return b


def budgets(policy, r, n_v, layers, note):
    """The whole budget of each layer. r: Fraction."""
    count = len(layers)
    total = total_budget(r, n_v, count)
    if policy.budget == "prefix":
        return prefix_budgets(layers, n_v, total, note)
    return whole_budgets(real_budgets(shares_of(policy, r, n_v, layers), r, n_v, total), total, note)


# ---------------------------------------------------------------- what is kept

def ranking(i_v):
    """A8.10: importance descending, then index ascending; NaN is an error."""
    if np.isnan(i_v).any():
        raise PolicyError("importance is not a number")
    return sorted(range(len(i_v)), key=lambda i: (-i_v[i], i))


def kept(policy, i_v, b, n_v, note):
    """Kept visual tokens of one layer (and KV head), ascending (R15, R16, R20)."""
    if policy.keep == "all":
        return list(range(n_v))
    if policy.keep == "streaming":
        first = list(range(min(4, b)))
        return sorted(set(first) | set(range(n_v - (b - len(first)), n_v)))
    kind, _, arg = policy.keep.partition(":")
    always = []
    if kind == "recent":
        num, den = map(int, arg.split("/"))
        recent = b * num // den
        always = list(range(n_v - recent, n_v))
    if kind == "first4+last":
        always = list(dict.fromkeys([*range(min(4, n_v)), n_v - 1]))[:b] if n_v else []
    rank = ranking(i_v)
    if kind == "window":        # R18: the window's own visual rows, marked +inf, the most recent first
        own = [i for i in rank if np.isinf(i_v[i])]
        always = own[::-1][:b]
    rest = [i for i in rank if i not in set(always)]
    top = rest[:b - len(always)]
    if top and len(top) < len(rest):
        note_gap(note, "rank", i_v[top[-1]], i_v[rest[len(top)]])
    return sorted(always + top)


# ---------------------------------------------------------------- margins: how near each decision was

def note_gap(note, what, taken, left):
    """Relative gap between the last one taken and the first one left out; exact ties are no margin but a rule."""
    if note is None or taken == left:
        return
    big = max(abs(Fraction(float(taken))), abs(Fraction(float(left))))
    if what in ("remainder", "prefix"):
        gap = float(abs(Fraction(taken) - Fraction(left)))          # absolute: entries, share
    else:
        gap = float(abs(Fraction(float(taken)) - Fraction(float(left))) / big)
    note[what] = min(note.get(what, np.inf), gap)


def note_threshold(note, att, alpha):
    """Relative gap between alpha * max and the nearest entry of Att."""
    if note is None:
        return
    bar = alpha * att.max()
    if bar > 0 and alpha < 1:
        note["elite"] = min(note.get("elite", np.inf), float(np.min(np.abs(att - bar)) / bar))


# ---------------------------------------------------------------- the whole

@dataclass
class Layer:
    window: object          # rows [w], or a list of G such
    importance: object      # [n_v] or [G, n_v]
    strength: float
    skewness: float
    density: Fraction


def observe(policy, q, k, roles, tail=None, note=None):
    """What one layer observed. q [H, n, d], k [G, n, d], float64."""
    heads, group = len(q), len(q) // len(k)
    k_of = [k[h // group] for h in range(heads)]
    n_v = len(visual_rows(roles))
    if n_v == 0 or policy.window == "nobody":
        return Layer(None, None, 0.0, 0.0, Fraction(1))
    sets = [range(g * group, (g + 1) * group) for g in range(len(k))] if policy.heads == "kv" else [range(heads)]
    windows, scores, densities = [], [], []
    for members in sets:
        q_m, k_m = [q[h] for h in members], [k_of[h] for h in members]
        w = window(policy, roles, q_m, k_m, tail, note)
        a, keys = equation_3(policy, roles, q_m, k_m, w)
        windows.append(w)
        scores.append(equation_4(policy, roles, a, keys, w))
        causal = policy.mask == "causal" or policy.keys == "causal"
        densities.append(density(a, keys, w, causal))
    if any(np.isnan(s).any() for s in scores):
        raise PolicyError("importance is not a number")
    finite = [s[np.isfinite(s)] for s in scores]
    s_t = float(np.mean([equation_5(s) for s in finite]))
    s_k = float(np.mean([equation_6(s) for s in finite]))
    d = sum(densities) / len(densities)
    if policy.heads == "kv":
        return Layer(windows, np.stack(scores), s_t, s_k, d)
    return Layer(windows[0], scores[0], s_t, s_k, d)


def plan(policy, r, layers, n_v, kv_heads, note=None):
    """Budgets [L] and kept sets: a list over layers of index lists, or of G index lists where scores are per KV head."""
    r = Fraction(r)
    if policy.keep == "all":
        return [n_v] * len(layers), [list(range(n_v)) for _ in layers]
    if n_v == 0:
        return [0] * len(layers), [[] for _ in layers]
    b = budgets(policy, r, n_v, layers, note)
    out = []
    for layer, b_l in zip(layers, b):
        if policy.heads == "kv":
            out.append([kept(policy, layer.importance[g], b_l, n_v, note) for g in range(kv_heads)])
        else:
            out.append(kept(policy, layer.importance, b_l, n_v, note))
    return b, out
