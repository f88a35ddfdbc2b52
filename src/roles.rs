//! The role of each prompt row: text or visual. Source: A8.12; bundle tensor `input.roles`.

use std::ops::Range;

/// The role of a prompt row. Spec: D1.2
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// A token of the text, including markers such as `<img>`.
    Text = 0,
    /// A row that came from the vision side, including newline rows.
    Visual = 1,
}

/// The role of every prompt row, in order. Spec: D1.2, C1.2a
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roles(pub Vec<Role>);

impl Roles {
    /// The roles of a prompt with these ids. A row is visual if its id is the image token.
    pub fn of(ids: &[u32], image_token: u32) -> Roles {
        Roles(ids.iter().map(|&id| if id == image_token { Role::Visual } else { Role::Text }).collect())
    }

    /// The roles in the numbers of `input.roles`. If a number is not a role, returns the first such row with its
    /// number. Spec: D1.2
    pub fn read(numbers: impl IntoIterator<Item = i64>) -> Result<Roles, (usize, i64)> {
        let role = |(i, number)| match number {
            0 => Ok(Role::Text),
            1 => Ok(Role::Visual),
            other => Err((i, other)),
        };
        Ok(Roles(numbers.into_iter().enumerate().map(role).collect::<Result<_, _>>()?))
    }

    /// The numbers of `input.roles`.
    pub fn numbers(&self) -> Vec<u8> {
        self.0.iter().map(|&role| role as u8).collect()
    }

    /// Number of prompt rows n.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the prompt is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows of one role, ascending.
    pub fn rows(&self, role: Role) -> Vec<usize> {
        (0..self.len()).filter(|&i| self.0[i] == role).collect()
    }

    /// The visual rows, ascending: entry v of the result is the row of visual token v.
    pub fn visual(&self) -> Vec<usize> {
        self.rows(Role::Visual)
    }

    /// The visual rows, if they follow each other.
    pub fn one_run(&self) -> Option<Range<usize>> {
        let visual = self.visual();
        let run = *visual.first()?..visual.last()? + 1;
        (run.len() == visual.len()).then_some(run)
    }

    /// The text rows, ascending.
    pub fn text(&self) -> Vec<usize> {
        self.rows(Role::Text)
    }
}
