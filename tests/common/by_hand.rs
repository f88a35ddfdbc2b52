//! Checkpoints that are small enough to compute by hand: the towers and layers of the worked examples.

use aircache::files::Files;
use aircache::weights::Checkpoint;

/// A checkpoint with these tensors: name, shape, numbers.
pub fn checkpoint(tensors: &[(&str, &[usize], &[f32])]) -> (Checkpoint, tempfile::TempDir) {
    use safetensors::tensor::{Dtype, TensorView, serialize};
    let bytes: Vec<Vec<u8>> = tensors.iter().map(|(.., v)| v.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views: Vec<_> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
    let checkpoint = Checkpoint::open(&Files::Folder(folder.path().into())).unwrap();
    (checkpoint, folder)
}
