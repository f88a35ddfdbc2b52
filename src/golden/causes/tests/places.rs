//! The sentences of rows and columns that hold others.

use super::*;

#[test]
fn d11_4_rows_and_columns_of_others_are_named() {
    let out = given(Site::Out, 0, &[24, 16]);
    let rows = |from: &dyn Fn(usize) -> usize| -> Vec<f64> {
        (0..24).flat_map(|i| out.truth[from(i) * 16..from(i) * 16 + 16].to_vec()).collect()
    };
    out.says("rows 17 to 23 hold each the row 17 places before", rows(&|i| i % 17));
    out.says("rows 0 to 23 stand in reverse order", rows(&|i| 23 - i));
    out.says("rows 0 to 23 stand in reverse order within every tile of 8", rows(&|i| i ^ 7));
    out.says("rows 3 and 9 are exchanged", rows(&|i| if i == 3 || i == 9 { 12 - i } else { i }));
    out.says("are exchanged with those 4 places away", rows(&|i| i ^ 4));
    let columns = |from: &dyn Fn(usize) -> usize| (0..384).map(|i| out.truth[i / 16 * 16 + from(i % 16)]).collect();
    out.says(
        "columns 4 to 11 are exchanged with those 4 places away",
        columns(&|c| if c / 4 % 3 > 0 { c ^ 12 } else { c }),
    );
    out.says("columns 8 to 15 hold each the column 8 places before", columns(&|c| c % 8));
    let mut zeros = out.truth.clone();
    zeros.iter_mut().enumerate().filter(|(i, _)| i % 16 > 12).for_each(|(_, v)| *v = 0.0);
    out.says("columns 13 to 15 are all zeros: never written", zeros);
    let off = out.truth.iter().enumerate().map(|(i, t)| if i % 16 == 5 { 1.02 * t } else { *t }).collect();
    out.says("column 5 is 1.02000 times the truth", off);
}
