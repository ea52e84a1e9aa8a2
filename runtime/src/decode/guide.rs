//! stub
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct State;
#[derive(Debug)]
pub(crate) struct Guide;
impl Guide {
    pub fn start(&self) -> State {
        State
    }
    pub fn useful(&self) -> Option<&[u32]> {
        None
    }
    pub fn bound(&self, _: u32) -> f64 {
        1.0
    }
    pub fn step(&self, _: State, _: u32) -> Option<(State, f64)> {
        None
    }
    pub fn finish(&self, _: State) -> Option<f64> {
        None
    }
}
