//! What a call runs: [`target`] is not begun, [`driven`] is.

pub mod driven;
mod returned;
pub mod target;
