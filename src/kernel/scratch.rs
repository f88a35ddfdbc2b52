//! Memory that kernels use again and again: each thread keeps what it had, so that a step of a decode asks the system for
//! none, however long the context is. What is in it never reaches a result.

use crate::num::Real;
use std::cell::RefCell;
use std::marker::PhantomData;

/// Bytes of a line of memory.
pub const LINE: usize = 64;

thread_local! {
    static KEPT: RefCell<Vec<Vec<f64>>> = const { RefCell::new(Vec::new()) };
}

/// Numbers to write to before they are read; they start where a line does, so that no register is loaded from two.
pub struct Scratch<T> {
    all: Vec<f64>,
    start: usize,
    len: usize,
    container: PhantomData<T>,
}

impl<T: Real> Scratch<T> {
    /// `len` numbers of any value.
    pub fn new(len: usize) -> Self {
        let mut all = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
        let needed = (len * size_of::<T>() + LINE).div_ceil(size_of::<f64>());
        if all.len() < needed {
            all = vec![0.0; needed]; // not resized: what is there need not be copied
        }
        let start = all.as_ptr().align_offset(LINE).min(LINE / size_of::<f64>());
        Scratch { all, start, len, container: PhantomData }
    }

    /// The numbers.
    pub fn get(&self) -> &[T] {
        &bytemuck::cast_slice(&self.all[self.start..])[..self.len]
    }

    /// The same to write to.
    pub fn get_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.all[self.start..])[..self.len]
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        let all = std::mem::take(&mut self.all);
        // A thread that ends has nowhere to keep it.
        let _ = KEPT.try_with(|kept| kept.borrow_mut().push(all));
    }
}
