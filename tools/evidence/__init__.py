"""What agents may know: metrics, behaviour and the diagnosis that rests on them."""
