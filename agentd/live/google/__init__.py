"""The Live API through google-genai: the only place where the SDK is seen."""
