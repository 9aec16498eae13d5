//! What a call runs: [`target`] is not begun, [`driven`] is.

pub mod driven;
pub mod target;
