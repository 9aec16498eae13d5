//! What a call runs: [`target`] is not begun, [`driven`] is; what it can't run is [`refused`], by its [`kinds`].

pub mod driven;
pub mod kinds;
pub mod refused;
mod returned;
pub mod target;
