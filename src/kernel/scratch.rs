//! Memory that kernels use again and again: each thread keeps what it had, so that a step of a decode asks the system for
//! none, however long the context is. What is in it never reaches a result.

use crate::num::Real;
use ndarray::Array2;
use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;

/// Bytes of a line of memory.
pub const LINE: usize = 64;

/// Arrays that are kept, of either container.
const ARRAYS: usize = 4;

thread_local! {
    static KEPT: RefCell<Vec<Vec<f64>>> = const { RefCell::new(Vec::new()) };
    static RECYCLED: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// An array to write to before it is read: [rows, cols] numbers of any value, in memory that was [`recycle`]d if there is
/// such. Fresh memory costs more than writing to it does: the system clears it page by page.
pub fn array<T: Real>(rows: usize, cols: usize) -> Array2<T> {
    let mut numbers = Vec::new();
    RECYCLED.with_borrow_mut(|all| {
        if let Some(i) = all.iter().position(|a| a.is::<Vec<T>>())
            && let Ok(recycled) = all.swap_remove(i).downcast::<Vec<T>>()
            && recycled.capacity() >= rows * cols
        {
            numbers = *recycled;
        }
    });
    numbers.resize(rows * cols, T::ZERO);
    Array2::from_shape_vec((rows, cols), numbers).unwrap_or_else(|_| unreachable!("as many numbers as the shape says"))
}

/// Keeps the memory of an array of many rows for another one.
pub fn recycle<T: Real>(array: Array2<T>) {
    let numbers = array.into_raw_vec_and_offset().0;
    // A thread that ends has nowhere to keep it.
    let _ = RECYCLED.try_with(|all| {
        let mut all = all.borrow_mut();
        all.truncate(ARRAYS - 1);
        all.push(Box::new(numbers));
    });
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
