//! Memory that kernels reuse: each thread keeps its buffers, so that a decode step requests no memory from the system,
//! for any length of context.
//!
//! The buffers are thread-local. Their old contents never reach a result: every number is written before it is read.

use crate::num::Real;
use ndarray::Array2;
use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;

/// Bytes of a cache line.
pub const LINE: usize = 64;

/// The most arrays that a thread keeps.
const ARRAYS: usize = 16;

thread_local! {
    static KEPT: RefCell<Vec<Vec<f64>>> = const { RefCell::new(Vec::new()) };
    /// Arrays and their sizes in bytes.
    static RECYCLED: RefCell<Vec<(usize, Box<dyn Any>)>> = const { RefCell::new(Vec::new()) };
}

/// An array of any numbers, [rows, cols], to be written before it is read. It reuses memory that was [`recycle`]d, if
/// some has about this size. The system clears new memory page by page, which takes longer than writing the result.
pub fn array<T: Real>(rows: usize, cols: usize) -> Array2<T> {
    let mut numbers = Vec::new();
    RECYCLED.with_borrow_mut(|all| {
        // Much larger memory is left for the arrays that it fits: they would have to clear it again.
        let size = rows * cols * size_of::<T>();
        let fits = |kept: usize, a: &dyn Any| (size..=2 * size).contains(&kept) && a.is::<Vec<T>>();
        let fitting = all.iter().enumerate().filter(|(_, (size, a))| fits(*size, &**a));
        if let Some((i, _)) = fitting.min_by_key(|(_, (size, _))| *size)
            && let Ok(recycled) = all.swap_remove(i).1.downcast::<Vec<T>>()
        {
            numbers = *recycled;
        }
    });
    numbers.resize(rows * cols, T::ZERO);
    Array2::from_shape_vec((rows, cols), numbers).unwrap_or_else(|_| unreachable!("as many numbers as the shape says"))
}

/// Keeps the memory of an array for the next [`array()`] of many rows on this thread. Of too many arrays, the largest stay.
pub fn recycle<T: Real>(array: Array2<T>) {
    let numbers = array.into_raw_vec_and_offset().0;
    // A thread that is ending keeps nothing.
    let _ = RECYCLED.try_with(|all| {
        let mut all = all.borrow_mut();
        all.push((numbers.capacity() * size_of::<T>(), Box::new(numbers)));
        if all.len() > ARRAYS
            && let Some((smallest, _)) = all.iter().enumerate().min_by_key(|(_, (size, _))| *size)
        {
            all.swap_remove(smallest);
        }
    });
}

/// Numbers to be written before they are read. They start at a cache line, so that no register is loaded from two
/// lines.
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
            all = Vec::new(); // given back first: otherwise both would be held for a moment
            all.resize(needed, 0.0);
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
        // A thread that is ending keeps nothing.
        let _ = KEPT.try_with(|kept| kept.borrow_mut().push(all));
    }
}
