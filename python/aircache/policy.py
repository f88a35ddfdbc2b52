#!/usr/bin/env python3
"""AirCache in plain PyTorch tensor code: the model of a GPU port.

Every function is one equation of spec/08-aircache.md, under the names used there; shapes are in the comments. Nothing
but torch is needed. `evict` turns one layer's keys and values into what stays of them; `compress` decides for a model:

    plan = compress(queries, keys, roles, retention="0.1")      # lists of [H, n, d] and [G, n, d], one entry a layer
    keys[l], values[l] = evict(keys[l], values[l], plan.rows(l))

What the paper leaves open (A8.1 to A8.13) is read as aircache reads it: one window and one kept set a layer, votes over
visual and elite keys, no causal mask, exact whole budgets. Scores are formed in float32 whatever the type of queries and
keys; a port that keeps them in bf16 passes `aircache check` as well, if its importances are stored so.
"""

from dataclasses import dataclass, field
from fractions import Fraction

import torch


@dataclass
class Plan:
    """What was decided, in the shapes of the bundle's `policy.*` stages."""

    roles: torch.Tensor  # [n], 1 where a prompt row is visual
    window: list = field(default_factory=list)  # of each layer: rows that vote, ascending
    importance: list = field(default_factory=list)  # of each layer: [n_v]
    strength: torch.Tensor = None  # [L], float64
    skewness: torch.Tensor = None  # [L], float64
    budget: list = field(default_factory=list)  # of each layer: visual entries that stay
    kept: list = field(default_factory=list)  # of each layer: visual tokens that stay, ascending, from 0 to n_v − 1

    def rows(self, layer):
        """The prompt rows that stay: all text, and the kept visual rows. D8.4"""
        stays = self.roles == 0
        stays[torch.nonzero(self.roles)[:, 0][self.kept[layer]]] = True
        return torch.nonzero(stays)[:, 0]

    def stages(self):
        """The plan as stages of a bundle, on the CPU."""
        out = {"policy.strength": self.strength, "policy.skewness": self.skewness}
        out["policy.budget"] = torch.tensor(self.budget)
        for layer, parts in enumerate(zip(self.window, self.importance, self.kept)):
            out.update({f"policy.{layer:02}.{name}": x for name, x in zip(("window", "importance", "kept"), parts)})
        return {name: x.cpu() for name, x in out.items()}


def attention(q, k):
    """softmax(q kᵀ / √d) of each query head, in float32: q [H, w, d], k [G, m, d] → [H, w, m]."""
    heads, groups, d = q.shape[0], k.shape[0], q.shape[-1]
    k = k.float().repeat_interleave(heads // groups, dim=0)  # query head h belongs to KV head ⌊h·G/H⌋
    return torch.softmax(q.float() @ k.mT * d**-0.5, dim=-1)


def text_that_votes(roles):
    """The text rows after the last visual one. A8.1"""
    visual = torch.nonzero(roles)[:, 0]
    return torch.arange(int(visual[-1]) + 1, len(roles), device=roles.device)


def elite(q, k, text, alpha=0.9):
    """The text rows that the last one attends to nearly as much as to its favourite. E8.1, E8.2"""
    att = attention(q[:, text[-1:]], k[:, text])[:, 0].mean(0)  # [N_t], A8.2
    return text[att >= alpha * att.max()]


def importance(q, k, window, visual):
    """The mean vote of the elite for each visual token: [n_v]. E8.3, E8.4"""
    keys = torch.cat([visual, window])  # A8.4: visual and elite keys; the order of a softmax does not matter
    votes = attention(q[:, window], k[:, keys])  # [H, N_tk, n_v + N_tk], no mask (A8.3)
    return votes[:, :, : len(visual)].mean((0, 1))


def strength(i_v):
    """How much a layer looks at the image. E8.5"""
    return i_v.double().sum()


def skewness(i_v):
    """How concentrated that look is: the adjusted Fisher–Pearson coefficient. E8.6, A8.6, A8.7"""
    i_v, n = i_v.double(), len(i_v)
    sigma = i_v.std(correction=1) if n > 2 else torch.tensor(0.0)
    if n < 3 or sigma == 0:
        return torch.zeros((), dtype=torch.float64, device=i_v.device)
    return n / ((n - 1) * (n - 2)) * (((i_v - i_v.mean()) / sigma) ** 3).sum()


def over_mean(s):
    """The ′ of (7): divided by the mean over layers, 1 everywhere where all are 0. A8.5, A8.6"""
    s = s.clamp(min=0)
    return s / s.mean() if s.sum() > 0 else torch.ones_like(s)


def budgets(s_t, s_k, n_v, retention):
    """Whole numbers of visual entries a layer, which sum to ⌊r · n_v · L + ½⌋ exactly. E8.7, A8.8, A8.9"""
    shares = [Fraction(x) for x in (0.5 * (over_mean(s_t) + over_mean(s_k))).tolist()]
    # Shares that differ by the rounding of their own sums tie: they enter as multiples of 2⁻⁴⁰ of the largest.
    unit = Fraction(2) ** (max(shares).numerator.bit_length() - max(shares).denominator.bit_length())
    unit = (unit if unit <= max(shares) else unit / 2) * Fraction(1, 2**40)
    shares = [(x / unit + Fraction(1, 2)).__floor__() for x in shares]
    total = (Fraction(retention) * n_v * len(shares) + Fraction(1, 2)).__floor__()

    real, capped = [Fraction(0)] * len(shares), set()
    while True:
        free = [l for l in range(len(shares)) if l not in capped]
        # With no layer capped the real budgets sum to r · n_v · L itself, not to the whole number it is rounded to.
        rest = total - n_v * len(capped) if capped else Fraction(retention) * n_v * len(shares)
        weight = sum(shares[l] for l in free)
        for l in free:
            real[l] = rest * Fraction(shares[l], weight) if weight else Fraction(rest, len(free))
        over = {l for l in free if real[l] > n_v}
        if not over:
            break
        capped |= over
        for l in over:
            real[l] = Fraction(n_v)

    whole = [x.__floor__() for x in real]
    by_remainder = sorted(range(len(real)), key=lambda l: (whole[l] - real[l], l))
    for l in by_remainder[: total - sum(whole)]:
        whole[l] += 1
    for l in range(len(whole)):
        if whole[l] == 0 and total >= len(whole):
            fullest = max(range(len(whole)), key=lambda m: (whole[m], m))
            whole[fullest], whole[l] = whole[fullest] - 1, 1
    return whole


def top(i_v, count):
    """The tokens that stay, ascending: importance descending, then index ascending. A8.10"""
    return torch.sort(torch.sort(i_v, descending=True, stable=True).indices[:count]).values


def compress(queries, keys, roles, retention, alpha=0.9):
    """Decides what stays: queries and keys after rotary, of each layer [H, n, d] and [G, n, d]; roles [n] → Plan."""
    plan, visual = Plan(roles), torch.nonzero(roles)[:, 0]
    for q, k in zip(queries, keys):
        plan.window.append(elite(q, k, text_that_votes(roles), alpha))
        plan.importance.append(importance(q, k, plan.window[-1], visual))
    plan.strength = torch.stack([strength(i_v) for i_v in plan.importance])
    plan.skewness = torch.stack([skewness(i_v) for i_v in plan.importance])
    plan.budget = budgets(plan.strength, plan.skewness, len(visual), retention)
    plan.kept = [top(i_v, count) for i_v, count in zip(plan.importance, plan.budget)]
    return plan


def evict(key, value, rows):
    """What stays of a layer's cache: key, value [G, n, d] → [G, len, d], copied bit for bit. Positions stay what they
    were: the keys carry them (D7.3). E7.2"""
    return key[:, rows].contiguous(), value[:, rows].contiguous()
