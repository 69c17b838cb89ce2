"""How good speech is: measures, and the clips they are taken of."""
