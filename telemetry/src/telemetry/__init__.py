"""Logs, traces, metrics and the base class of the settings, for both services. It knows neither of them."""
