// Swagger UI parses JSON answers and prints them anew, so that 12345678901234567890
// becomes 12345678901234567000, and 0.1000 becomes 0.1. This plugin shows their text
// as it came.
const JSONAsItCame = () => ({
  wrapComponents: {
    responseBody: (Original, system) => (props) => {
      const element = system.React.createElement;
      if (typeof props.content !== "string" || !/json/i.test(props.contentType)) {
        return element(Original, props);
      }
      return element("div", null,
        element("h5", null, "Response body"),
        element(system.getComponent("highlightCode"), {
          value: props.content, language: "json", getConfigs: props.getConfigs,
          canCopy: true, downloadable: true, fileName: "response.json",
        }));
    },
  },
});

window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // no document of ours goes to a stranger
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  plugins: [SwaggerUIBundle.plugins.DownloadUrl, JSONAsItCame],
  layout: "StandaloneLayout",
});
