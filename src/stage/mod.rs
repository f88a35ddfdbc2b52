//! Stages: the named places of the flow. One table gives each stage its name, its contents and the stages that it is
//! computed from. Recording, causal order, replay, layouts, `aircache stages` and T1.2 of the specification read this
//! table. Spec: D1.3, T1.2

mod name;
mod origin;
mod phase;
mod row;
mod table;

pub use name::Stage;
pub use origin::Facts;
pub use phase::{LayerStages, Phase};
pub use row::{From, Kind, Place, Row, Site};
pub use table::TABLE;
