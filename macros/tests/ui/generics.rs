#[coring::test]
async fn type_of<T: Default>() -> Result<(), T> {
    Err(T::default())
}

#[coring::test]
async fn number<const N: usize>() {}

#[coring::test]
async fn clause()
where
    u8: Into<u16>,
{
}

#[coring::main]
async fn main<T>() {}
