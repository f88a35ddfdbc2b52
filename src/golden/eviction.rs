//! The eviction that a candidate's cache and steps follow from: what the candidate recorded, what its cache shows, or
//! what no honest noise could change. Not here: whether the eviction is right.

use super::Bundle;
use super::case::{Case, Counts};
use super::held::{Rows, recorded, shown};
use super::kinds::kept::firm;
use super::kinds::{raters, shares};
use super::parsed::{kept, mean, per_set};
use crate::policy::{Budget, Retain};
use crate::stage::{Place, Site, Stage};
use ndarray::ArrayD;

impl Case<'_> {
    /// The number of decoder layers.
    pub fn layers(&self) -> Option<usize> {
        if let Some(ground) = &self.ground {
            return Some(ground.facts.layers);
        }
        let by_layer = [Site::Budget, Site::Strength, Site::Skewness].map(|site| Stage::once(site).name());
        let length = |bundle: &Bundle| by_layer.iter().find_map(|name| bundle.get(name)?.shape.first().copied());
        let layer = |at: Stage| (at.row().place == Place::Layer).then_some(at.layer + 1);
        let most = |bundle: &Bundle| bundle.names().filter_map(Stage::parse).filter_map(layer).max();
        let known = length(self.golden).or_else(|| length(self.candidate));
        known.or_else(|| most(self.golden).max(most(self.candidate)))
    }

    /// Whether a stage's truth is known: in a replay, whether the bundle's own values reach it.
    pub fn reaches(&self, at: Stage) -> bool {
        let decided = |at: Stage| match at.site {
            Site::Raters => raters::firm(self).is_ok(),
            Site::Into => false,
            _ => self.held(at.layer).is_ok(),
        };
        self.ground.as_ref().is_none_or(|ground| ground.reaches(at, &decided))
    }

    /// The candidate's own budgets, if it recorded them for all layers.
    pub fn budgets(&self) -> Option<Vec<usize>> {
        let name = Stage::once(Site::Budget).name();
        let budgets = self.candidate.get(&name).and_then(|_| self.candidate.i64(&name).ok())?;
        per_set(&budgets, self.layers()?)
    }

    /// Whether a golden, which holds the truth's own decision, has these integers.
    pub fn golden_has(&self, name: &str, got: &[i64]) -> bool {
        let ours = || self.golden.get(name).and_then(|_| self.golden.i64(name).ok());
        self.ground.is_none() && ours().is_some_and(|ours| ours.iter().eq(got))
    }

    /// Whether a golden, which holds the truth's own decision, keeps these candidates.
    pub fn golden_keeps(&self, l: usize, got: &[Vec<usize>]) -> bool {
        let Some(scorer) = self.scorer.as_ref().filter(|_| self.ground.is_none()) else { return false };
        let name = Stage::layer(Site::Kept, l).name();
        kept(self.golden, &name, got.len(), scorer.candidates().len()).is_some_and(|ours| ours == got)
    }

    /// The positions of the candidate's prompt rows, or else the golden's.
    pub fn positions(&self) -> Option<ArrayD<i64>> {
        let name = Stage::once(Site::Positions).name();
        let of = |bundle: &Bundle| bundle.get(&name).and_then(|_| bundle.i64(&name).ok());
        of(self.candidate).or_else(|| of(self.golden))
    }

    /// The rows that a bundle's own kept sets or cache show.
    fn rows_of(&self, bundle: &Bundle, l: usize) -> Option<Rows> {
        if self.prunes() {
            return Some(vec![self.left_in(bundle, l)?]);
        }
        let sets = self.sets(l).map_or(1, |(_, sets)| sets);
        let named = self.scorer.as_ref().and_then(|scorer| recorded(bundle, scorer, l, sets));
        named.or_else(|| shown(bundle, l, self.positions().as_ref()))
    }

    /// The candidates that a layer keeps, as the candidate's cache shows them; none if some row that is no candidate
    /// does not stay.
    pub fn shown_sets(&self, l: usize) -> Option<Vec<Vec<usize>>> {
        let (scorer, (policy, sets)) = self.scorer.as_ref().zip(self.sets(l))?;
        let rows = self.rows_of(self.candidate, l)?;
        let rows = if policy.per_head() { &rows[..] } else { &rows[..1] };
        let of = |rows: &Vec<usize>| {
            let set: Vec<usize> = rows.iter().filter_map(|row| scorer.candidates().binary_search(row).ok()).collect();
            (scorer.rows_kept(std::slice::from_ref(&set), 1)[0] == *rows).then_some(set)
        };
        let found = rows.iter().map(of).collect::<Option<Vec<_>>>()?;
        (found.len() == sets).then_some(found)
    }

    /// What the rule says of the numbers of entries that the candidate's layers keep, where it recorded no budgets.
    pub fn counted(&self) -> &Counts {
        self.counted.get_or_init(|| {
            let each = |l: usize| self.shown_sets(l).and_then(|sets| mean(&sets));
            let kept: Vec<Option<usize>> = (0..self.layers().unwrap_or(0)).map(each).collect();
            shares::counts(self, &kept)
        })
    }

    /// Whether nothing is evicted, whatever the numbers are.
    fn keeps_all(&self) -> bool {
        match &self.policy {
            Some((policy, _)) if policy.prunes() => false,
            Some((policy, retain)) => policy.budget == Budget::Full || *retain == Retain::ALL,
            None => {
                let decides = |name: &str| Stage::parse(name).is_some_and(|at| at.row().part == "policy");
                let bundles = [Some(self.candidate), self.ground.is_none().then_some(self.golden)];
                !bundles.into_iter().flatten().any(|bundle| bundle.names().any(decides))
            }
        }
    }

    /// The prompt rows that the candidate's cache holds, for each KV head or for all. Spec: D10.13, C10.13b
    ///
    /// # Errors
    /// The reason why they are not known.
    pub fn held(&self, l: usize) -> Result<Rows, &'static str> {
        self.held.get(l, |&l| self.rows_of(self.candidate, l).map_or_else(|| self.decided(l), Ok))
    }

    /// The rows that are held if no honest noise could change the eviction.
    fn decided(&self, l: usize) -> Result<Rows, &'static str> {
        if self.prunes() {
            return Ok(vec![self.left(l)?]);
        }
        if self.keeps_all() {
            return self.rows().map(|n| vec![(0..n).collect()]).ok_or("the number of prompt rows is not known");
        }
        let scorer = self.scorer.as_ref().ok_or("the policy or the roles are not known")?;
        let sets = firm(self, l)?;
        Ok(scorer.rows_kept(&sets, sets.len()))
    }

    /// Why steps up to a layer do not follow from the golden's own eviction; none if they do. Spec: C10.5a
    pub fn other_eviction(&self, layers: usize) -> Option<&'static str> {
        (0..layers).find_map(|l| self.evicted.get(l, |&l| self.compared(l).err()))
    }

    /// Whether a layer's cache holds the same rows as the golden's.
    fn compared(&self, l: usize) -> Result<(), &'static str> {
        let ours = match self.rows_of(self.golden, l) {
            Some(rows) => rows,
            None if self.keeps_all() => vec![(0..self.rows().unwrap_or(0)).collect()],
            None => return Err("the golden does not say which entries it keeps"),
        };
        let got = self.held(l)?;
        let same = (0..ours.len().max(got.len())).all(|g| ours[g % ours.len()] == got[g % got.len()]);
        same.then_some(()).ok_or("the kept entries differ from the golden's; a replay (--model) judges this stage")?;
        self.other_merges().map_or(Ok(()), Err)
    }
}
